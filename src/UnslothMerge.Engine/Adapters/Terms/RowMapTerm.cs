using System.Buffers;
using System.Runtime.InteropServices;
using UnslothMerge.Formats;
using UnslothMerge.IO;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Terms;

/// <summary>
/// A change of every row of a layer's weight [outputs, inputs] by itself, computed in double. Where the weight is stored [inputs, outputs],
/// as transformers' Conv1D does, rows are columns, and the whole tensor is mapped before any of it is written: at once, or band after band of
/// its columns into a file.
/// </summary>
/// <param name="layout">How the weight is stored.</param>
public abstract class RowMapTerm(LayerLayout layout) : DeltaTerm
{
    // A band that is worth a pass over the tensor.
    private const int UsualBandBytes = 8 * 1024 * 1024;

    private string? _directory;

    /// <summary>How the weight is stored.</summary>
    protected LayerLayout Layout { get; } = layout;

    // [outputs, inputs].
    private int Height => checked((int)Layout.Outputs);

    private int Width => checked((int)Layout.Inputs);

    // The columns that are mapped at a time.
    private int Band => _directory is null ? Height : Math.Clamp(UsualBandBytes / (Width * sizeof(float)), 1, Height);

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
    public sealed override long ResidentBytes => MapBytes + (Layout.InputFirst ? (long)Band * Width * sizeof(float) : 0);

    /// <summary>The bytes of the map.</summary>
    protected abstract long MapBytes { get; }

    /// <inheritdoc/>
    public sealed override long SpillBytes => Layout.InputFirst ? (long)Height * Width * sizeof(float) : 0;

    /// <inheritdoc/>
    public sealed override DeltaTerm SpilledTo(string directory)
    {
        var spilled = (RowMapTerm)MemberwiseClone();
        spilled._directory = Layout.InputFirst ? directory : null;
        return spilled;
    }

    /// <inheritdoc/>
    public sealed override long BytesOf(int rows) => _directory is null ? 0 : (long)rows * Height * sizeof(float);

    /// <inheritdoc/>
    public sealed override DeltaReader Open(DeltaContext context)
    {
        var sum = Composition == DeltaComposition.Sum;
        if (!Layout.InputFirst)
        {
            return new RowReader(Load(context.Files, visitor => VisitRows(context, visitor)), sum, context.Factor);
        }

        var band = new NativeBuffer((long)Band * Width * sizeof(float));
        var file = _directory is null ? null : new ScratchFile(_directory, SpillBytes);
        try
        {
            var map = Load(context.Files, visitor => VisitColumns(context, sum, band, visitor));
            for (var first = 0; first < Height; first += Band)
            {
                var count = Math.Min(Band, Height - first);
                Gather(context, sum, band, first, count);
                MapColumns(band, map, first, count);
                if (file is not null)
                {
                    Spill(band, file, first, count);
                }
            }

            return file is null ? new ColumnReader(band, Width, sum, context.Factor) : new FileReader(file, Height, sum, context.Factor);
        }
        catch
        {
            file?.Dispose();
            band.Dispose();
            throw;
        }
        finally
        {
            if (file is not null)
            {
                band.Dispose();
            }
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

    private void VisitColumns(DeltaContext context, bool sum, NativeBuffer band, RowVisitor visitor)
    {
        var row = new double[Width];
        for (var first = 0; first < Height; first += Band)
        {
            var count = Math.Min(Band, Height - first);
            Gather(context, sum, band, first, count);
            for (var i = 0; i < count; i++)
            {
                Widen(band.Floats.Slice(i * Width, Width), row);
                visitor(first + i, row);
            }
        }
    }

    // Transposes some columns of the stored [inputs, outputs]: the base's weights for a sum, what earlier changes made of them otherwise.
    private void Gather(DeltaContext context, bool sum, NativeBuffer band, int first, int count) => context.Scan(tile =>
    {
        var values = band.Floats;
        for (var i = 0; i < tile.Rows; i++)
        {
            var row = tile.WeightRow(i).Slice(first, count);
            var delta = tile.DeltaRow(i).Slice(first, count);
            for (var c = 0; c < count; c++)
            {
                values[(int)(((long)c * Width) + tile.Row + i)] = sum ? row[c] : row[c] + delta[c];
            }
        }
    });

    private void MapColumns(NativeBuffer band, RowMap map, int first, int count)
    {
        var (row, scratch) = (new double[Width], new double[Width]);
        for (var output = 0; output < count; output++)
        {
            var values = band.Floats.Slice(output * Width, Width);
            Widen(values, row);
            map.Apply(first + output, row, scratch);
            for (var i = 0; i < row.Length; i++)
            {
                values[i] = (float)row[i];
            }
        }
    }

    // The file is [inputs, outputs], as the weight is stored.
    private void Spill(NativeBuffer band, ScratchFile file, int first, int count)
    {
        var values = band.Floats;
        var row = new float[count];
        for (var i = 0; i < Width; i++)
        {
            for (var c = 0; c < count; c++)
            {
                row[c] = values[(c * Width) + i];
            }

            file.Write((((long)i * Height) + first) * sizeof(float), MemoryMarshal.AsBytes<float>(row));
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
                    Set(ref weights[c], ref deltas[c], values[((tile.Column + c) * inputs) + (int)tile.Row + i], sum, factor);
                }
            }
        }

        protected override void Dispose(bool disposing)
        {
            results.Dispose();
            base.Dispose(disposing);
        }
    }
    private sealed class FileReader(ScratchFile results, int outputs, bool sum, double factor) : DeltaReader
    {
        public override void Read(long row, int rows, Span<byte> buffer) => results.Read(row * outputs * sizeof(float), buffer[..(rows * outputs * sizeof(float))]);

        public override void Apply(ReadOnlySpan<byte> buffer, long row, Tile tile)
        {
            var values = MemoryMarshal.Cast<byte, float>(buffer);
            for (var i = 0; i < tile.Rows; i++)
            {
                var weights = tile.WeightRow(i);
                var deltas = tile.DeltaRow(i);
                for (var c = 0; c < weights.Length; c++)
                {
                    Set(ref weights[c], ref deltas[c], values[((int)(tile.Row - row + i) * outputs) + tile.Column + c], sum, factor);
                }
            }
        }

        protected override void Dispose(bool disposing)
        {
            results.Dispose();
            base.Dispose(disposing);
        }
    }

    private static void Set(ref float weight, ref float delta, float result, bool sum, double factor)
    {
        if (sum)
        {
            delta += (float)(factor * ((double)result - weight));
        }
        else
        {
            TileValue.Set(ref weight, ref delta, result);
        }
    }
}
