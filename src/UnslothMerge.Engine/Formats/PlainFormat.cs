using UnslothMerge.Simd;

namespace UnslothMerge.Formats;

/// <summary>A tensor stored as plain numbers: F16, BF16, F32, F64; or of any other dtype, if nobody needs its values.</summary>
internal sealed class PlainSource(StoredTensor stored) : TensorSource
{
    public override IReadOnlyList<long> Shape => stored.Shape;

    public override TensorType Type => stored.Type;

    public override string Format => stored.Type.ToString();

    public override IReadOnlyList<StoredTensor> Inputs => [stored];

    public override StoredTensor Verbatim => stored;

    public override TensorType? PlainType => stored.Type.IsPlainFloat() ? stored.Type : null;

    public override long BytesOf(MatrixView view, int rows) => (long)rows * view.Columns * stored.Type.Bits() / 8;

    public override TensorReader Open(InputFiles files, MatrixView view) => new Reader(stored, files, view);

    /// <summary>Those of one stored tensor are the same, however often they are made.</summary>
    public override bool Equals(object? obj) => obj is PlainSource other && other.Verbatim == stored;

    public override int GetHashCode() => stored.GetHashCode();

    private sealed class Reader(StoredTensor stored, InputFiles files, MatrixView view) : TensorReader
    {
        private readonly int _width = stored.Type.Bits() / 8;
        private readonly PlainDecoder _decode = PlainFormat.Decoder(stored.Type);

        public override void Read(long row, int rows, Span<byte> bytes) => files.Read(stored, row * view.Columns * _width, bytes);

        public override void Decode(ReadOnlySpan<byte> bytes, long row, int rows, Tile tile)
        {
            for (var i = 0; i < tile.Rows; i++)
            {
                var start = ((tile.Row - row + i) * view.Columns + tile.Column) * _width;
                _decode(bytes.Slice((int)start, tile.Columns * _width), tile.WeightRow(i));
            }
        }
    }
}

/// <summary>Writes a tensor as plain numbers: F16, BF16 or F32.</summary>
internal sealed class PlainSink(string name, TensorType type, IReadOnlyList<long> shape) : TensorSink
{
    public override IReadOnlyList<TensorSpec> Outputs { get; } = [new TensorSpec(name, type, shape)];

    public override string Format => type.ToString();

    public override TensorType? RoundedType => type;

    public override long BytesOf(MatrixView view, int rows) => (long)rows * view.Columns * type.Bits() / 8;

    public override TensorWriter Open(InputFiles files, MatrixView view, IOutput output) => new Writer(type, view, output);

    private sealed class Writer(TensorType type, MatrixView view, IOutput output) : RoundingWriter(type, view)
    {
        public override void Write(long row, int rows, Span<byte> encoded, ref TileStatistics statistics) =>
            output.Write(0, row * View.Columns * Width, encoded);
    }
}

/// <summary>Rounds rows to a dtype at the beginning of its buffer; adds deltas to plain stored values in one step.</summary>
internal abstract class RoundingWriter(TensorType type, MatrixView view) : TensorWriter
{
    private readonly PlainCombiner _round = PlainFormat.Combiner(TensorType.F32, type);

    /// <summary>The bytes of a rounded value.</summary>
    protected int Width { get; } = type.Bits() / 8;

    protected MatrixView View => view;

    public override void Merge(Piece piece, Tile tile, Span<byte> encoded, ref TileStatistics statistics)
    {
        if (piece.PlainType is not { } stored)
        {
            base.Merge(piece, tile, encoded, ref statistics);
            return;
        }

        piece.AddDeltas(tile);
        var first = ((int)(tile.Row - piece.Row) * view.Columns) + tile.Column;
        var weight = piece.Stored[(first * stored.Bits() / 8)..];
        PlainFormat.Combiner(stored, type)(
            weight, tile.Delta, encoded[(first * Width)..], tile.Rows, tile.Columns, view.Columns, view.Columns, ref statistics);
    }

    public override void Encode(Tile tile, long row, Span<byte> encoded, ref TileStatistics statistics) =>
        _round.Encode(tile, row, view, encoded, Width, ref statistics);
}

/// <summary>Widens stored numbers to fp32.</summary>
internal delegate void PlainDecoder(ReadOnlySpan<byte> stored, Span<float> values);

/// <summary>Adds a delta (or none, if empty) to weights as they are stored, and rounds once to the stored dtype, in one step. Strides
/// between two rows are in elements. The result may be the memory of the weight, if both dtypes have one size.</summary>
internal delegate void PlainCombiner(
    ReadOnlySpan<byte> weight, ReadOnlySpan<float> delta, Span<byte> stored, int rows, int columns, int weightStride, int storedStride,
        ref TileStatistics statistics);

/// <summary>The kernels of the plain dtypes.</summary>
internal static class PlainFormat
{
    /// <summary>The kernel that reads a dtype.</summary>
    public static PlainDecoder Decoder(TensorType type) => type switch
    {
        TensorType.BF16 => (stored, values) => FloatFormats.Decode<BFloat16Format>(stored, values),
        TensorType.F16 => (stored, values) => FloatFormats.Decode<HalfFormat>(stored, values),
        TensorType.F32 => (stored, values) => FloatFormats.Decode<SingleFormat>(stored, values),
        TensorType.F64 => (stored, values) => FloatFormats.Decode<DoubleFormat>(stored, values),
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "Only floating-point tensors have values to merge."),
    };

    /// <summary>Rounds values once to BF16, F16 or F32.</summary>
    public static void Round(TensorType type, ReadOnlySpan<float> values, Span<byte> stored)
    {
        var (none, count) = (default(TileStatistics), values.Length);
        Combiner(TensorType.F32, type)(MemoryMarshal.AsBytes(values), default, stored, 1, count, count, count, ref none);
    }

    /// <summary>The kernel that adds to one dtype and writes another.</summary>
    public static PlainCombiner Combiner(TensorType from, TensorType to) => from switch
    {
        TensorType.BF16 => Combiner<BFloat16Format>(to),
        TensorType.F16 => Combiner<HalfFormat>(to),
        TensorType.F32 => Combiner<SingleFormat>(to),
        TensorType.F64 => Combiner<DoubleFormat>(to),
        _ => throw new ArgumentOutOfRangeException(nameof(from), from, "Only floating-point tensors have values to merge."),
    };

    /// <summary>Adds the planes of a tile and rounds the sums into a buffer of whole rows.</summary>
    public static void Encode(this PlainCombiner combine, Tile tile, long row, MatrixView view, Span<byte> rounded, int width,
        ref TileStatistics statistics)
    {
        var start = (((int)(tile.Row - row) * view.Columns) + tile.Column) * width;
        combine(MemoryMarshal.AsBytes(tile.Weight), tile.Delta, rounded[start..], tile.Rows, tile.Columns, tile.Columns, view.Columns,
            ref statistics);
    }

    private static PlainCombiner Combiner<TSource>(TensorType to)
        where TSource : struct, IElementFormat => to switch
        {
            TensorType.BF16 => Combine.Rows<TSource, BFloat16Format>,
            TensorType.F16 => Combine.Rows<TSource, HalfFormat>,
            TensorType.F32 => Combine.Rows<TSource, SingleFormat>,
            _ => throw new ArgumentOutOfRangeException(nameof(to), to, "Merged tensors are written as BF16, F16 or F32."),
        };
}
