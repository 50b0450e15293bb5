using System.Buffers;
using UnslothMerge.Formats;
using UnslothMerge.IO;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Terms;

/// <summary>
/// A change of every row of a layer's weight [outputs, inputs] by itself, computed in double. Where the weight is stored [inputs, outputs],
/// as transformers' Conv1D does, rows are columns, and the whole tensor is mapped at once.
/// </summary>
/// <param name="layout">How the weight is stored.</param>
public abstract class RowMapTerm(LayerLayout layout) : DeltaTerm
{
    /// <summary>How the weight is stored.</summary>
    protected LayerLayout Layout { get; } = layout;

    /// <summary>Sees the base's weights of one output.</summary>
    private protected delegate void RowVisitor(long output, ReadOnlySpan<double> row);

    /// <inheritdoc/>
    public override bool IsAdditive => Composition == DeltaComposition.Sum;

    /// <inheritdoc/>
    public override DeltaComposition Composition => DeltaComposition.After;

    /// <inheritdoc/>
    public override DeltaReach Reach => Layout.InputFirst ? DeltaReach.WholeTensor : DeltaReach.RowLocal;

    /// <inheritdoc/>
    public override bool NeedsWholeRows => !Layout.InputFirst;

    /// <inheritdoc/>
    public sealed override long ResidentBytes => MapBytes + (Layout.InputFirst ? Layout.Outputs * Layout.Inputs * sizeof(float) : 0);

    /// <summary>The bytes of the map.</summary>
    protected abstract long MapBytes { get; }

    /// <inheritdoc/>
    public sealed override long BytesOf(int rows) => 0;

    /// <inheritdoc/>
    public sealed override DeltaReader Open(DeltaContext context)
    {
        var sum = Composition == DeltaComposition.Sum;
        if (!Layout.InputFirst)
        {
            return new RowReader(Load(context.Files, visitor => VisitRows(context, visitor)), sum, context.Factor);
        }

        var weights = new NativeBuffer(Layout.Outputs * Layout.Inputs * sizeof(float));
        try
        {
            Gather(context, sum, weights);
            var map = Load(context.Files, visitor => VisitColumns(weights, visitor));
            MapColumns(weights, map);
            return new ColumnReader(weights, (int)Layout.Inputs, sum, context.Factor);
        }
        catch
        {
            weights.Dispose();
            throw;
        }
    }

    /// <summary>Loads the map.</summary>
    /// <param name="files">The open files.</param>
    /// <param name="visitRows">Shows every row of the base's weight, for maps that must know all.</param>
    private protected abstract RowMap Load(InputFiles files, Action<RowVisitor> visitRows);

    private static void VisitRows(DeltaContext context, RowVisitor visitor)
    {
        var row = new double[context.View.Columns];
        context.Scan(tile =>
        {
            for (var i = 0; i < tile.Rows; i++)
            {
                Widen(tile.WeightRow(i), row);
                visitor(tile.Row + i, row);
            }
        });
    }

    private void VisitColumns(NativeBuffer weights, RowVisitor visitor)
    {
        var inputs = (int)Layout.Inputs;
        var row = new double[inputs];
        for (var output = 0; output < Layout.Outputs; output++)
        {
            Widen(weights.Floats.Slice(output * inputs, inputs), row);
            visitor(output, row);
        }
    }

    // Transposes the stored [inputs, outputs] to [outputs, inputs]: the base's weights for a sum, what earlier changes made of them otherwise.
    private void Gather(DeltaContext context, bool sum, NativeBuffer weights) => context.Scan(tile =>
    {
        var values = weights.Floats;
        for (var i = 0; i < tile.Rows; i++)
        {
            var row = tile.WeightRow(i);
            var delta = tile.DeltaRow(i);
            for (var c = 0; c < row.Length; c++)
            {
                values[(int)((c * Layout.Inputs) + tile.Row + i)] = sum ? row[c] : row[c] + delta[c];
            }
        }
    });

    private void MapColumns(NativeBuffer weights, RowMap map)
    {
        var inputs = (int)Layout.Inputs;
        var (row, scratch) = (new double[inputs], new double[inputs]);
        for (var output = 0; output < Layout.Outputs; output++)
        {
            var values = weights.Floats.Slice(output * inputs, inputs);
            Widen(values, row);
            map.Apply(output, row, scratch);
            for (var i = 0; i < inputs; i++)
            {
                values[i] = (float)row[i];
            }
        }
    }

    private static void Widen(ReadOnlySpan<float> values, Span<double> wide)
    {
        for (var i = 0; i < values.Length; i++)
        {
            wide[i] = values[i];
        }
    }

    private sealed class RowReader(RowMap map, bool sum, double factor) : DeltaReader
    {
        public override void Read(long row, int rows, Span<byte> buffer)
        {
        }

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
                    if (sum)
                    {
                        deltas[c] += (float)(factor * (values[c] - weights[c]));
                    }
                    else
                    {
                        TileValue.Set(ref weights[c], ref deltas[c], values[c]);
                    }
                }
            }

            ArrayPool<double>.Shared.Return(rented);
        }
    }

    private sealed class ColumnReader(NativeBuffer results, int inputs, bool sum, double factor) : DeltaReader
    {
        public override void Read(long row, int rows, Span<byte> buffer)
        {
        }

        public override void Apply(ReadOnlySpan<byte> buffer, long row, Tile tile)
        {
            var values = results.Floats;
            for (var i = 0; i < tile.Rows; i++)
            {
                var weights = tile.WeightRow(i);
                var deltas = tile.DeltaRow(i);
                for (var c = 0; c < weights.Length; c++)
                {
                    var result = values[((tile.Column + c) * inputs) + (int)tile.Row + i];
                    if (sum)
                    {
                        deltas[c] += (float)(factor * ((double)result - weights[c]));
                    }
                    else
                    {
                        TileValue.Set(ref weights[c], ref deltas[c], result);
                    }
                }
            }
        }

        protected override void Dispose(bool disposing)
        {
            results.Dispose();
            base.Dispose(disposing);
        }
    }
}
