namespace UnslothMerge.Adapters.Terms;

/// <summary>A delta's tensors, and how they make a matrix [out, in] (convolutions: [out, in · kernel]).</summary>
internal sealed record MatrixDelta(IReadOnlyList<StoredTensor> Inputs, Func<DeltaContext, DeltaMatrix> Open)
{
    /// <summary>True if the target is stored as [in, out].</summary>
    public bool IsTransposed { get; init; }

    /// <summary>True if the opened matrix is the transpose: [in, out].</summary>
    public bool IsTurned { get; init; }

    /// <summary>True if the delta is the matrix times the weight, element by element.</summary>
    public bool IsRelative { get; init; }

    /// <summary>The rank, where it has one.</summary>
    public int? Rank { get; init; }

    /// <summary>The factor before the matrix.</summary>
    public double Scaling { get; init; } = 1;

    /// <summary>What must be seen before a row can be changed.</summary>
    public DeltaReach Reach { get; init; } = DeltaReach.RowLocal;

    /// <summary>The bytes that are held beside the inputs in double.</summary>
    public long ExtraBytes { get; init; }

    /// <summary>All bytes that are held, where that is not the inputs in double and <see cref="ExtraBytes"/>.</summary>
    public long? HeldBytes { get; init; }
}

/// <summary>A delta that is computed in double from a <see cref="DeltaMatrix"/>, rounded to fp32 and added. For the rarer kinds, where a
/// kernel of its own would not pay.</summary>
internal sealed class MatrixTerm(string kind, MatrixDelta delta, MatrixView view) : DeltaTerm(kind, delta.Inputs)
{
    public override int? Rank => delta.Rank;

    public override double Scaling => delta.Scaling;

    public override DeltaReach Reach => delta.Reach;

    public override long ResidentBytes => delta.HeldBytes ?? (delta.Inputs.Sum(i => i.Shape.Count()) * sizeof(double)) + delta.ExtraBytes;

    public override long BytesOf(int rows) => (long)rows * view.Columns * sizeof(float);

    public override DeltaReader Open(DeltaContext context) =>
        new Reader(
            delta.Open(context), view.Columns, delta.IsTransposed != delta.IsTurned, delta.IsRelative, delta.Scaling * context.Factor);

    // Whole pieces are computed ahead: their blocks can have whatever form suits the matrix.
    private sealed class Reader(DeltaMatrix matrix, int columns, bool transposed, bool relative, double scale) : DeltaReader
    {
        public override void Read(long row, int rows, Span<byte> buffer)
        {
            var piece = MemoryMarshal.Cast<byte, float>(buffer)[..(rows * columns)];
            var width = matrix.NeedsWholeRows
                ? columns
                : Math.Min(columns, transposed ? Math.Max(Block.MaxValues / Math.Max(rows, 1), 32) : 256);
            var height = Math.Clamp(Block.MaxValues / Math.Max(width, 1), 1, Math.Max(rows, 1));
            var values = ArrayPool<double>.Shared.Rent(height * width);
            for (var i = 0; i < rows; i += height)
            {
                for (var j = 0; j < columns; j += width)
                {
                    var (h, w) = (Math.Min(height, rows - i), Math.Min(width, columns - j));
                    var at = (int)row + i;
                    matrix.Fill(transposed ? new Block(j, w, at, h) : new Block(at, h, j, w), values.AsSpan(0, h * w));
                    Round(values, piece[((i * columns) + j)..], h, w);
                }
            }

            ArrayPool<double>.Shared.Return(values);
        }

        public override void Apply(ReadOnlySpan<byte> buffer, long row, Tile tile)
        {
            var piece = MemoryMarshal.Cast<byte, float>(buffer);
            for (var i = 0; i < tile.Rows; i++)
            {
                var from = piece.Slice(((int)(tile.Row - row + i) * columns) + tile.Column, tile.Columns);
                var weight = tile.WeightRow(i);
                var sum = tile.DeltaRow(i);
                for (var j = 0; j < from.Length; j++)
                {
                    sum[j] = relative ? MathF.FusedMultiplyAdd(weight[j], from[j], sum[j]) : sum[j] + from[j];
                }
            }
        }

        private void Round(double[] values, Span<float> piece, int height, int width)
        {
            for (var i = 0; i < height; i++)
            {
                for (var j = 0; j < width; j++)
                {
                    piece[(i * columns) + j] = (float)(scale * values[transposed ? (j * height) + i : (i * width) + j]);
                }
            }
        }
    }
}
