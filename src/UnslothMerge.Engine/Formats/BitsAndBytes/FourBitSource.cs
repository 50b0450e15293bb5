using UnslothMerge.Simd;

namespace UnslothMerge.Formats.BitsAndBytes;

/// <summary>The stored tensors of one 4-bit weight: two codes a byte, high nibble first, over the row-major flattened weight (any dtype may
/// hold the bytes); absmax F32 [blocks], or U8 [blocks] with double quantization; F32 [16], the value of each code; F32 [⌈blocks / nested
/// block size⌉]; F32 [256], the value of each absmax code; U8, the JSON of the <see cref="QuantState"/>.</summary>
internal sealed record FourBitTensors(
    StoredTensor Packed, StoredTensor AbsMax, StoredTensor QuantMap, StoredTensor? NestedAbsMax, StoredTensor? NestedQuantMap,
    StoredTensor StateJson)
{
    /// <summary>All of them.</summary>
    public IReadOnlyList<StoredTensor> All =>
        NestedAbsMax is null ? [Packed, AbsMax, QuantMap, StateJson] : [Packed, AbsMax, QuantMap, NestedAbsMax, NestedQuantMap!, StateJson];
}

/// <summary>The bytes and blocks that hold some rows.</summary>
internal readonly record struct FourBitExtent(long FirstByte, int Bytes, long FirstBlock, int Blocks)
{
    /// <summary>The decoded scales in what was read: they follow the codes at an aligned place.</summary>
    public Span<float> AbsMaxOf(Span<byte> stored) =>
        MemoryMarshal.Cast<byte, float>(stored.Slice((int)CacheLine.Align(Bytes), Blocks * sizeof(float)));

    public ReadOnlySpan<float> AbsMaxOf(ReadOnlySpan<byte> stored) =>
        MemoryMarshal.Cast<byte, float>(stored.Slice((int)CacheLine.Align(Bytes), Blocks * sizeof(float)));
}

/// <summary>Decodes values from a given one of what is packed on; see <see cref="FourBit.Decode"/>.</summary>
internal delegate void FourBitDecoder(
    ReadOnlySpan<byte> packed, int first, ReadOnlySpan<float> map, ReadOnlySpan<float> absMax, int blockSize, Span<float> values);

/// <summary>A weight that bitsandbytes quantized to NF4 or FP4. Decodes as bitsandbytes does: code · absmax in fp32, rounded once to the
/// dtype that the weight had. Blocks are flat: they may begin and end within a row. Source: bitsandbytes 0.50, <c>dequantize_4bit</c>;
/// QLoRA (arXiv 2305.14314).</summary>
internal sealed class FourBitSource(FourBitTensors tensors, QuantState state) : TensorSource
{
    public override IReadOnlyList<long> Shape => state.Shape;

    public override TensorType Type => state.Type;

    /// <summary>Elements that share one absmax.</summary>
    public int BlockSize => state.BlockSize;

    public override string Format => state.QuantType.ToUpperInvariant();

    public override IReadOnlyList<StoredTensor> Inputs => tensors.All;

    public override long BytesOf(MatrixView view, int rows)
    {
        // Rows may begin and end in the middle of a block. The decoded absmax values follow the codes at an aligned place.
        var elements = (long)rows * view.Columns;
        var blocks = (elements / state.BlockSize) + 2;
        return CacheLine.Align((elements + state.BlockSize) / 2 + 1) + blocks * (sizeof(float) + 1);
    }

    public override TensorSink? WrittenBack(string name) => !state.Type.IsHalfWidthFloat() ? null
        : new FourBitSink(name, state.Shape, new FourBitOptions(
            FourBitCodes.Of(state.QuantType), state.BlockSize, state.NestedBlockSize is not null, state.Type)
        {
            Packed = new TensorSpec(name, tensors.Packed.Type, tensors.Packed.Shape),
        });

    /// <summary>The value of each code.</summary>
    public float[] MapOf(InputFiles files) => files.ReadAll<float>(tensors.QuantMap);

    /// <summary>Where the codes and scales of some rows lie, in the file and in what a reader reads of them. Reading starts at a block's
    /// first byte.</summary>
    public FourBitExtent ExtentOf(MatrixView view, long row, int rows)
    {
        var first = row * view.Columns;
        var end = first + ((long)rows * view.Columns);
        var firstBlock = first / state.BlockSize;
        var firstByte = firstBlock * state.BlockSize / 2;
        return new FourBitExtent(
            firstByte, (int)(((end + 1) / 2) - firstByte), firstBlock, (int)(((end + state.BlockSize - 1) / state.BlockSize) - firstBlock));
    }

    /// <summary>The kernel for weights of a dtype.</summary>
    public static FourBitDecoder Decoder(TensorType type) => type switch
    {
        TensorType.BF16 => (p, f, m, a, b, v) => FourBit.Decode<BFloat16Format>(p, f, m, a, b, v),
        TensorType.F16 => (p, f, m, a, b, v) => FourBit.Decode<HalfFormat>(p, f, m, a, b, v),
        _ => (p, f, m, a, b, v) => FourBit.Decode<SingleFormat>(p, f, m, a, b, v),
    };

    public override TensorReader Open(InputFiles files, MatrixView view) => new Reader(this, tensors, state, files, view);

    private sealed class Reader(
        FourBitSource source, FourBitTensors tensors, QuantState state, InputFiles files, MatrixView view) : TensorReader
    {
        private readonly float[] _map = source.MapOf(files);
        private readonly float[]? _nestedMap = tensors.NestedQuantMap is null ? null : files.ReadAll<float>(tensors.NestedQuantMap);
        private readonly float[]? _nestedAbsMax = tensors.NestedAbsMax is null ? null : files.ReadAll<float>(tensors.NestedAbsMax);
        private readonly FourBitDecoder _decode = Decoder(state.Type);

        public override void Read(long row, int rows, Span<byte> stored)
        {
            var extent = source.ExtentOf(view, row, rows);
            var (firstByte, bytes, firstBlock, blocks) = extent;
            files.Read(tensors.Packed, firstByte, stored[..bytes]);
            var absMax = extent.AbsMaxOf(stored);
            if (_nestedMap is null)
            {
                files.Read(tensors.AbsMax, firstBlock * sizeof(float), MemoryMarshal.AsBytes(absMax));
                return;
            }

            var codes = stored.Slice((int)CacheLine.Align(bytes) + (blocks * sizeof(float)), blocks);
            files.Read(tensors.AbsMax, firstBlock, codes);
            FourBit.NestedAbsmax(
                codes, _nestedMap, _nestedAbsMax, checked((int)firstBlock), state.NestedBlockSize!.Value, state.NestedOffset, absMax);
        }

        public override void Decode(ReadOnlySpan<byte> stored, long row, int rows, Tile tile)
        {
            var extent = source.ExtentOf(view, row, rows);
            for (var i = 0; i < tile.Rows; i++)
            {
                var first = (int)(((tile.Row + i) * view.Columns) + tile.Column - (extent.FirstByte * 2));
                _decode(stored[..extent.Bytes], first, _map, extent.AbsMaxOf(stored), state.BlockSize, tile.WeightRow(i));
            }
        }
    }
}
