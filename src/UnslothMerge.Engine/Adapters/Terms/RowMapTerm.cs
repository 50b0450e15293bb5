namespace UnslothMerge.Adapters.Terms;

/// <summary>What a change makes of one row of a layer's weight [outputs, inputs], independent of all other rows; used by several workers at
/// once.</summary>
internal abstract class RowMap
{
    /// <summary>Maps the row of an output in place: [inputs]. The scratch is as long.</summary>
    public abstract void Apply(long output, Span<double> row, Span<double> scratch);
}

/// <summary>A change of every row of a layer's weight [outputs, inputs] by itself, computed in double. Where the weight is stored [inputs,
/// outputs], as transformers' Conv1D does, rows are columns, and the whole tensor is mapped in memory before any of it is
/// written.</summary>
internal abstract class RowMapTerm(string kind, IReadOnlyList<StoredTensor> inputs, LayerLayout layout) : DeltaTerm(kind, inputs)
{
    /// <summary>How the weight is stored.</summary>
    protected LayerLayout Layout { get; } = layout;

    // [outputs, inputs].
    private int Height => checked((int)Layout.Outputs);

    private int Width => checked((int)Layout.Inputs);

    private long TransposedBytes => Layout.InputFirst ? (long)Height * Width * sizeof(float) : 0;

    /// <summary>Sees the base's weights of one output.</summary>
    protected delegate void RowVisitor(long output, ReadOnlySpan<double> row);

    public override bool IsAdditive => Composition == DeltaComposition.Sum;

    public override DeltaComposition Composition => DeltaComposition.After;

    public override DeltaReach Reach => Layout.InputFirst ? DeltaReach.WholeTensor : DeltaReach.RowLocal;

    public override bool NeedsWholeRows => !Layout.InputFirst;

    public sealed override long ResidentBytes => MapBytes + TransposedBytes;

    /// <summary>The bytes of the map.</summary>
    protected abstract long MapBytes { get; }

    public sealed override DeltaReader Open(DeltaContext context)
    {
        var sum = Composition == DeltaComposition.Sum;
        if (!Layout.InputFirst)
        {
            return new RowReader(Load(context.Files, visitor => VisitRows(context, visitor)), sum, context.Factor);
        }

        var weight = new NativeBuffer(TransposedBytes);
        try
        {
            Transpose(context, sum, weight);
            Map(weight, Load(context.Files, visitor => VisitRows(weight, visitor)));
            return new ColumnReader(weight, Width, sum, context.Factor);
        }
        catch
        {
            weight.Dispose();
            throw;
        }
    }

    /// <summary>Loads the map; <paramref name="visitRows"/> shows every row of the base's weight, for maps that must know all.</summary>
    protected abstract RowMap Load(InputFiles files, Action<RowVisitor> visitRows);

    private static void VisitRows(DeltaContext context, RowVisitor visitor)
    {
        var row = new double[context.View.Columns];
        context.Scan(tile =>
        {
            for (var i = 0; i < tile.Rows; i++)
            {
                TensorPrimitives.ConvertTruncating<float, double>(tile.WeightRow(i), row);
                visitor(tile.Row + i, row);
            }
        });
    }

    private void VisitRows(NativeBuffer weight, RowVisitor visitor)
    {
        var row = new double[Width];
        for (var output = 0; output < Height; output++)
        {
            TensorPrimitives.ConvertTruncating<float, double>(weight.Floats.Slice(output * Width, Width), row);
            visitor(output, row);
        }
    }

    // From the stored [inputs, outputs] to [outputs, inputs]: the base's weights for a sum, what earlier changes made of them otherwise.
    private void Transpose(DeltaContext context, bool sum, NativeBuffer weight) => context.Scan(tile =>
    {
        var values = weight.Floats;
        for (var i = 0; i < tile.Rows; i++)
        {
            var row = tile.WeightRow(i);
            var delta = tile.DeltaRow(i);
            for (var c = 0; c < Height; c++)
            {
                values[(c * Width) + (int)tile.Row + i] = sum ? row[c] : row[c] + delta[c];
            }
        }
    });

    private void Map(NativeBuffer weight, RowMap map)
    {
        var (row, scratch) = (new double[Width], new double[Width]);
        for (var output = 0; output < Height; output++)
        {
            var values = weight.Floats.Slice(output * Width, Width);
            TensorPrimitives.ConvertTruncating<float, double>(values, row);
            map.Apply(output, row, scratch);
            TensorPrimitives.ConvertTruncating<double, float>(row, values);
        }
    }

    private static void Store(double result, ref float weight, ref float delta, bool sum, double factor)
    {
        if (sum)
        {
            delta += (float)(factor * (result - weight));
        }
        else
        {
            TileValue.Set(ref weight, ref delta, result);
        }
    }

    private sealed class RowReader(RowMap map, bool sum, double factor) : DeltaReader
    {
        public override void Apply(ReadOnlySpan<byte> buffer, long row, Tile tile)
        {
            var columns = tile.Columns;
            var rented = ArrayPool<double>.Shared.Rent(2 * columns);
            var values = rented.AsSpan(0, columns);
            var scratch = rented.AsSpan(columns, columns);
            for (var i = 0; i < tile.Rows; i++)
            {
                var weights = tile.WeightRow(i);
                var deltas = tile.DeltaRow(i);
                for (var c = 0; c < columns; c++)
                {
                    values[c] = sum ? weights[c] : (double)weights[c] + deltas[c];
                }

                map.Apply(tile.Row + i, values, scratch);
                for (var c = 0; c < columns; c++)
                {
                    Store(values[c], ref weights[c], ref deltas[c], sum, factor);
                }
            }

            ArrayPool<double>.Shared.Return(rented);
        }
    }

    private sealed class ColumnReader(NativeBuffer results, int inputs, bool sum, double factor) : DeltaReader
    {
        public override void Apply(ReadOnlySpan<byte> buffer, long row, Tile tile)
        {
            var values = results.Floats;
            for (var i = 0; i < tile.Rows; i++)
            {
                var weights = tile.WeightRow(i);
                var deltas = tile.DeltaRow(i);
                for (var c = 0; c < weights.Length; c++)
                {
                    Store(values[((tile.Column + c) * inputs) + (int)tile.Row + i], ref weights[c], ref deltas[c], sum, factor);
                }
            }
        }

        public override void Dispose()
        {
            results.Dispose();
            base.Dispose();
        }
    }
}
