using UnslothMerge.Simd;

namespace UnslothMerge.Formats.BitsAndBytes;

/// <summary>How a weight is quantized to 4 bits. Nested: the absmax values are quantized too, with 8 bits. The type is the 16-bit dtype
/// that the merge is rounded to first, and that the weight decodes to.</summary>
internal sealed record FourBitOptions(FourBitCodes Codes, int BlockSize, bool Nested, TensorType Type)
{
    /// <summary>Absmax values that share one nested absmax.</summary>
    public const int NestedBlockSize = 256;

    /// <summary>The stored tensor of the codes, where it is not U8 [bytes, 1]: other dtypes may hold the bytes.</summary>
    public TensorSpec? Packed { get; init; }
}

/// <summary>Writes a weight as bitsandbytes does: the merge is rounded to the model's 16-bit dtype and then quantized in flat blocks; all
/// companions lie in the weight's shard. The quantization state's JSON depends on the data, so it comes last. Source: bitsandbytes 0.50,
/// <c>quantize_4bit</c>.</summary>
internal sealed class FourBitSink(string name, IReadOnlyList<long> shape, FourBitOptions options) : TensorSink
{
    private const int QuantMapOutput = 2;
    private const int NestedAbsMaxOutput = 3;
    private const int NestedQuantMapOutput = 4;

    private readonly long _elements = shape.Count();
    private readonly long _blocks = (shape.Count() + options.BlockSize - 1) / options.BlockSize;

    public override IReadOnlyList<TensorSpec> Outputs =>
    [
        options.Packed ?? new(name, TensorType.U8, [(_elements + 1) / 2, 1]),
        new($"{name}.absmax", options.Nested ? TensorType.U8 : TensorType.F32, [_blocks]),
        new($"{name}.quant_map", TensorType.F32, [16]),
        .. options.Nested
            ? new TensorSpec[] { new($"{name}.nested_absmax", TensorType.F32, [NestedBlocks]),
                new($"{name}.nested_quant_map", TensorType.F32, [256]) }
            : [],
    ];

    public override IReadOnlyList<DeferredSpec> Deferred =>
        [new($"{name}.quant_state.bitsandbytes__{options.Codes.Name}", State(-1.2345678901234567e-30).Length)];

    public override string Format => options.Codes.Name.ToUpperInvariant();

    public override TensorType? RoundedType => options.Type;

    public override long ResidentBytes => _blocks * sizeof(float);

    public override bool IsQuantized => true;

    public override int RowQuantum
    {
        get
        {
            // Pieces end where blocks end. Block sizes are powers of two.
            var columns = MatrixView.Of(shape).Columns;
            var quantum = 1;
            while ((long)quantum * columns % options.BlockSize != 0)
            {
                quantum *= 2;
            }

            return quantum;
        }
    }

    private long NestedBlocks => (_blocks + FourBitOptions.NestedBlockSize - 1) / FourBitOptions.NestedBlockSize;

    public override long BytesOf(MatrixView view, int rows)
    {
        // The rounded values, then the codes that they become.
        var elements = (long)rows * view.Columns;
        return CacheLine.Align(elements * sizeof(ushort)) + ((elements + 1) / 2);
    }

    public override TensorWriter Open(InputFiles files, MatrixView view, IOutput output) => new Writer(this, options, view, output);

    // Python's json.dumps, in the order of bitsandbytes.
    private byte[] State(double nestedOffset)
    {
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture,
            $"{{\"quant_type\": \"{options.Codes.Name}\", \"blocksize\": {options.BlockSize}, \"dtype\": \"{options.Type.TorchName()}\", " +
            $"\"shape\": [{string.Join(", ", shape)}]");
        if (options.Nested)
        {
            text.Append(CultureInfo.InvariantCulture,
                $", \"nested_blocksize\": {FourBitOptions.NestedBlockSize}, \"nested_dtype\": \"float32\", \"nested_offset\": " +
                $"{PythonFloat(nestedOffset)}");
        }

        return Encoding.UTF8.GetBytes(text.Append('}').ToString());
    }

    private static string PythonFloat(double value)
    {
        // The shortest digits that read back as the same double, with an exponent below 1e-4 as Python has it.
        var text = value.ToString("R", CultureInfo.InvariantCulture).ToLowerInvariant();
        return text.AsSpan().IndexOfAny('.', 'e') < 0 ? text + ".0" : text;
    }

    private sealed class Writer(FourBitSink sink, FourBitOptions options, MatrixView view, IOutput output)
        : RoundingWriter(options.Type, view)
    {
        private readonly NativeBuffer _absMax = new(sink._blocks * sizeof(float));

        public override void Write(long row, int rows, Span<byte> encoded, ref TileStatistics statistics)
        {
            // The buffer holds the rounded values of whole rows, then the space for their codes.
            var elements = rows * View.Columns;
            var rounded = encoded[..(elements * Width)];
            var packed = encoded.Slice((int)CacheLine.Align(elements * Width), (elements + 1) / 2);
            var blocks = (elements + options.BlockSize - 1) / options.BlockSize;
            var absMax = _absMax.Floats.Slice((int)(row * View.Columns / options.BlockSize), blocks);
            options.Codes.Encode(options.Type, rounded, options.BlockSize, packed, absMax, ref statistics);
            output.Write(0, row * View.Columns / 2, packed);
        }

        // With absmax as it is: nesting changes it by less than a percent, alike for two values of one block.
        public override void RoundTrip(long row, int rows, Span<float> values)
        {
            var buffer = ArrayPool<byte>.Shared.Rent((values.Length * Width) + ((values.Length + 1) / 2));
            var rounded = buffer.AsSpan(0, values.Length * Width);
            var packed = buffer.AsSpan(rounded.Length, (values.Length + 1) / 2);
            var absMax = new float[(values.Length + options.BlockSize - 1) / options.BlockSize];
            TileStatistics none = default;
            PlainFormat.Round(options.Type, values, rounded);
            options.Codes.Encode(options.Type, rounded, options.BlockSize, packed, absMax, ref none);
            FourBitSource.Decoder(options.Type)(packed, 0, options.Codes.Values.Span, absMax, options.BlockSize, values);
            ArrayPool<byte>.Shared.Return(buffer);
        }

        public override IReadOnlyList<byte[]> Finish()
        {
            var absMax = _absMax.Floats[..(int)sink._blocks];
            output.Write(QuantMapOutput, 0, MemoryMarshal.AsBytes(options.Codes.Values.Span));
            if (!options.Nested)
            {
                output.Write(1, 0, MemoryMarshal.AsBytes(absMax));
                return [sink.State(0)];
            }

            var sum = 0.0;
            foreach (var value in absMax)
            {
                sum += value;
            }

            var offset = (float)(sum / absMax.Length);
            WriteNested(absMax, offset);
            return [sink.State(offset)];
        }

        public override void Dispose()
        {
            _absMax.Dispose();
            base.Dispose();
        }

        // What is left of absmax over its mean, in blocks of 256, each value at the nearest of the map's.
        private void WriteNested(ReadOnlySpan<float> absMax, float offset)
        {
            var codes = new byte[absMax.Length];
            var nested = new float[sink.NestedBlocks];
            for (var b = 0; b < nested.Length; b++)
            {
                var start = b * FourBitOptions.NestedBlockSize;
                var block = absMax.Slice(start, Math.Min(FourBitOptions.NestedBlockSize, absMax.Length - start));
                nested[b] = Math.Max(TensorPrimitives.Max(block) - offset, offset - TensorPrimitives.Min(block));
                DynamicMap.Encode(block, offset, nested[b] > 0 ? 1 / nested[b] : 0, codes.AsSpan(start));
            }

            output.Write(1, 0, codes);
            output.Write(NestedAbsMaxOutput, 0, MemoryMarshal.AsBytes(nested.AsSpan()));
            output.Write(NestedQuantMapOutput, 0, MemoryMarshal.AsBytes(DynamicMap.Values));
        }
    }
}
