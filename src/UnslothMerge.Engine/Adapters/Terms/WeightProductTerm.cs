namespace UnslothMerge.Adapters.Terms;

/// <summary>Δb = W·C for a bias [out], with the base's weight W [out, in] and C [in]. Source: GLoRA (arXiv 2306.07967).</summary>
internal sealed class WeightProductTerm(string kind, TensorSource weight, GloraPath path) : DeltaTerm(kind, [.. path.Inputs])
{
    private const long PieceBytes = 4 * 1024 * 1024;

    public override DeltaReach Reach => DeltaReach.WholeTensor;

    public override long ResidentBytes => (weight.Shape[0] * sizeof(double)) + path.Bytes + (3 * PieceBytes);

    public override DeltaReader Open(DeltaContext context)
    {
        var view = MatrixView.ByOutput(weight.Shape);
        var values = path.Load(context.Files);
        var (vector, element) = (new double[view.Columns], new double[1]);
        for (var i = 0; i < vector.Length; i++)
        {
            values.Row(i, 0, element);
            vector[i] = context.Factor * element[0];
        }

        return new Reader(Multiply(context.Files, view, vector));
    }

    private double[] Multiply(InputFiles files, MatrixView view, double[] vector)
    {
        var quantum = weight.RowQuantum;
        var rows = (int)Math.Min(view.Rows, Math.Max(quantum, PieceBytes / sizeof(float) / view.Columns / quantum * quantum));
        using var reader = weight.Open(files, view);
        using var stored = new NativeBuffer(weight.BytesOf(view, rows));
        using var plane = new NativeBuffer((long)rows * view.Columns * sizeof(float));
        var product = new double[view.Rows];
        for (var first = 0L; first < view.Rows; first += rows)
        {
            var count = (int)Math.Min(rows, view.Rows - first);
            var bytes = stored.Bytes[..(int)weight.BytesOf(view, count)];
            var tile = new Tile(plane.Floats[..(count * view.Columns)], default, first, count, 0, view.Columns);
            reader.Read(first, count, bytes);
            reader.Decode(bytes, first, count, tile);
            for (var i = 0; i < count; i++)
            {
                var sum = 0.0;
                var row = tile.WeightRow(i);
                for (var c = 0; c < row.Length; c++)
                {
                    sum = Math.FusedMultiplyAdd(row[c], vector[c], sum);
                }

                product[first + i] = sum;
            }
        }

        return product;
    }

    private sealed class Reader(double[] product) : DeltaReader
    {
        public override void Apply(ReadOnlySpan<byte> buffer, long row, Tile tile)
        {
            var deltas = tile.DeltaRow(0);
            for (var c = 0; c < deltas.Length; c++)
            {
                deltas[c] += (float)product[tile.Column + c];
            }
        }
    }
}
