using UnslothMerge.Simd;

namespace UnslothMerge.Formats.Quantized;

/// <summary>A matrix [rows, columns] that is written in a scheme of compressed-tensors. Values: the dtype that they come in, F32 if they
/// were merged or decoded. Scales: the model's 16-bit dtype.</summary>
internal sealed record CompressedWeight(
    string Module, long Rows, int Columns, CompressedScheme Scheme, TensorType Values, TensorType Scales)
{
    /// <summary>The set of matrices with which it shares its divisor: those that vLLM joins to one.</summary>
    public string Set { get; init; } = Module;

    /// <summary>The tensors of the base that belong to the set are surveyed together.</summary>
    public string SurveySet { get; init; } = Module;

    /// <summary>What the name of the scales ends with.</summary>
    public string ScaleEnding { get; init; } = "weight_scale";

    /// <summary>The scale of a group of zeros; null for the machine epsilon of the scales' dtype.</summary>
    public float? EmptyScale { get; init; }

    public int Group => Scheme.Group ?? Columns;

    public int Groups => Columns / Group;

    public long RowBytes => (long)Columns * Scheme.Bits / 8;

    /// <summary>The bytes of a stored scale.</summary>
    public int ScaleBytes => ScaleType.Bits() / 8;

    public TensorType CodeType => Scheme switch
    {
        { IsFloat: true, Bits: 8 } => TensorType.F8_E4M3,
        { IsFloat: true } => TensorType.U8,
        { IsPacked: true } => TensorType.I32,
        _ => TensorType.I8,
    };

    public TensorType ScaleType => Scheme.Scales switch
    {
        ScaleKind.PowerOfTwo => TensorType.U8,
        ScaleKind.Divided => TensorType.F8_E4M3,
        _ => Scales,
    };
}

/// <summary>Writes a matrix as llm-compressor does: rounded once, from fp32 to the codes. Sources: llm-compressor 0.14,
/// <c>model_free_ptq</c>; compressed-tensors 0.19.</summary>
internal sealed class CompressedSink(CompressedWeight weight) : TensorSink
{
    private const int ZerosInWord = 8;

    // The last outputs, where there are some.
    private const int LastOutputs = 2;

    public override IReadOnlyList<TensorSpec> Outputs { get; } = [.. OutputsOf(weight)];

    public override string Format => weight.Scheme.Numbers;

    public override bool IsQuantized => true;

    public override TensorType? RoundedType => TensorType.F32;

    public override int RowQuantum =>
        (int)Math.Min(weight.Scheme.IsSymmetric ? weight.Scheme.BlockRows : ZerosInWord, Math.Max(weight.Rows, 1));

    public override string? SurveySet => weight.Scheme.Scales == ScaleKind.Divided ? weight.SurveySet : null;

    public override long ResidentBytes => Outputs.Skip(1).Sum(o => o.Bytes);

    public override long BytesOf(MatrixView view, int rows) => (long)rows * view.Columns * sizeof(float);

    public override TensorWriter Open(InputFiles files, MatrixView view, IOutput output) => new Writer(this, weight, view, output);

    private static IEnumerable<TensorSpec> OutputsOf(CompressedWeight weight)
    {
        var (module, scheme, rows) = (weight.Module, weight.Scheme, weight.Rows);
        var perWord = weight.CodeType == TensorType.U8 ? 2 : weight.CodeType == TensorType.I32 ? 32 / scheme.Bits : 1;
        yield return new TensorSpec(
            scheme.IsPacked ? $"{module}.weight_packed" : $"{module}.weight", weight.CodeType, [rows, weight.Columns / perWord]);
        yield return new TensorSpec(
            $"{module}.{weight.ScaleEnding}", weight.ScaleType, [(rows + scheme.BlockRows - 1) / scheme.BlockRows, weight.Groups]);
        if (scheme.Format == CompressedScheme.W4A16.Format)
        {
            yield return new TensorSpec($"{module}.weight_shape", TensorType.I64, [2]);
        }

        if (!scheme.IsSymmetric)
        {
            yield return new TensorSpec(
                $"{module}.weight_zero_point", TensorType.I32, [(rows + ZerosInWord - 1) / ZerosInWord, weight.Groups]);
        }

        if (scheme.Scales == ScaleKind.Divided)
        {
            yield return new TensorSpec($"{module}.weight_global_scale", TensorType.F32, [1]);
        }
    }

    private sealed class Writer(CompressedSink sink, CompressedWeight weight, MatrixView view, IOutput output)
        : RoundingWriter(TensorType.F32, view)
    {
        private readonly CompressedScheme _scheme = weight.Scheme;
        private readonly NativeBuffer _scales = new(sink.Outputs[1].Bytes);
        private readonly NativeBuffer? _zeros = weight.Scheme.IsSymmetric ? null : Cleared(sink.Outputs[LastOutputs + 1].Bytes);
        private readonly Lock _gate = new();
        private readonly Encoder _encode = KernelsOf(weight.Scheme).Encode;
        private readonly RoundTripper _roundTrip = KernelsOf(weight.Scheme).RoundTrip;
        private float _largest;
        private float _divisor = 1;

        private delegate void Encoder(
            ReadOnlySpan<float> row, int group, ReadOnlySpan<float> scales, ReadOnlySpan<float> zeros, Span<byte> codes,
            ref TileStatistics statistics);

        private delegate void RoundTripper(Span<float> row, int group, ReadOnlySpan<float> scales, ReadOnlySpan<float> zeros);

        public override IReadOnlyDictionary<string, SurveyedRange> Surveyed =>
            new Dictionary<string, SurveyedRange> { [weight.Set] = new(_largest, weight.Values) };

        public override void Survey(long row, int rows, Span<byte> encoded)
        {
            var values = ValuesOf(rows, encoded);
            var largest = 0f;
            GroupedCodes.Largest(values, values.Length, new Span<float>(ref largest));
            lock (_gate)
            {
                _largest = MathF.Max(_largest, largest);
            }
        }

        public override void Begin(IReadOnlyDictionary<string, SurveyedRange> found) =>
            _divisor = found.TryGetValue(weight.Set, out var range) ? CompressedScales.Divisor(range.Largest, range.Type) : 1;

        public override void Write(long row, int rows, Span<byte> encoded, ref TileStatistics statistics)
        {
            var cells = CellsOf(rows);
            var buffer = ArrayPool<float>.Shared.Rent(2 * cells);
            var values = ValuesOf(rows, encoded);
            var scales = buffer.AsSpan(0, cells);
            var zeros = buffer.AsSpan(cells, _scheme.IsSymmetric ? 0 : cells);
            var first = row / _scheme.BlockRows * weight.Groups;
            ChooseScales(values, scales, zeros, _scales.Bytes.Slice((int)(first * weight.ScaleBytes), cells * weight.ScaleBytes));
            PackZeros(row, zeros);
            for (var r = 0; r < rows; r++)
            {
                // Codes take the place of values that have been read.
                var cell = r / _scheme.BlockRows * weight.Groups;
                _encode(
                    values.Slice(r * View.Columns, View.Columns), weight.Group, scales.Slice(cell, weight.Groups),
                    zeros.IsEmpty ? default : zeros.Slice(cell, weight.Groups),
                    encoded.Slice((int)(r * weight.RowBytes), (int)weight.RowBytes), ref statistics);
            }

            ArrayPool<float>.Shared.Return(buffer);
            output.Write(0, row * weight.RowBytes, encoded[..(int)(rows * weight.RowBytes)]);
        }

        public override void RoundTrip(long row, int rows, Span<float> values)
        {
            var cells = CellsOf(rows);
            var scales = new float[cells];
            var zeros = new float[_scheme.IsSymmetric ? 0 : cells];
            ChooseScales(values, scales, zeros, new byte[cells * weight.ScaleBytes]);
            for (var r = 0; r < rows; r++)
            {
                var cell = r / _scheme.BlockRows * weight.Groups;
                _roundTrip(
                    values.Slice(r * View.Columns, View.Columns), weight.Group, scales.AsSpan(cell, weight.Groups),
                    zeros.Length == 0 ? default : zeros.AsSpan(cell, weight.Groups));
            }
        }

        public override IReadOnlyList<byte[]> Finish()
        {
            output.Write(1, 0, _scales.Bytes[..(int)sink.Outputs[1].Bytes]);
            if (_scheme.Format == CompressedScheme.W4A16.Format)
            {
                output.Write(LastOutputs, 0, MemoryMarshal.AsBytes<long>([weight.Rows, weight.Columns]));
            }

            if (_zeros is not null)
            {
                output.Write(LastOutputs + 1, 0, _zeros.Bytes[..(int)sink.Outputs[LastOutputs + 1].Bytes]);
            }

            if (_scheme.Scales == ScaleKind.Divided)
            {
                output.Write(LastOutputs, 0, MemoryMarshal.AsBytes<float>([_divisor]));
            }

            return [];
        }

        public override void Dispose()
        {
            _scales.Dispose();
            _zeros?.Dispose();
            base.Dispose();
        }

        private static (Encoder Encode, RoundTripper RoundTrip) KernelsOf(CompressedScheme scheme) => (scheme.IsFloat, scheme.Bits) switch
        {
            (true, 8) => Kernels<E4M3Grid>(),
            (true, _) => Kernels<E2M1Grid>(),
            (false, 8) when scheme.IsPacked => Kernels<OffsetByteGrid>(),
            (false, 8) => Kernels<SignedByteGrid>(),
            _ => Kernels<OffsetNibbleGrid>(),
        };

        private static NativeBuffer Cleared(long bytes)
        {
            var buffer = new NativeBuffer(bytes);
            buffer.Bytes.Clear();
            return buffer;
        }

        private Span<float> ValuesOf(int rows, Span<byte> encoded) => MemoryMarshal.Cast<byte, float>(encoded)[..(rows * View.Columns)];

        private int CellsOf(int rows) => (rows + _scheme.BlockRows - 1) / _scheme.BlockRows * weight.Groups;

        private void ChooseScales(ReadOnlySpan<float> values, Span<float> scales, Span<float> zeros, Span<byte> stored)
        {
            scales.Clear();
            for (var r = 0; r < values.Length / View.Columns; r++)
            {
                var (cell, groups) = (r / _scheme.BlockRows * weight.Groups, weight.Groups);
                var numbers = values.Slice(r * View.Columns, View.Columns);
                if (zeros.IsEmpty)
                {
                    GroupedCodes.Largest(numbers, weight.Group, scales.Slice(cell, groups));
                }
                else
                {
                    GroupedCodes.Range(numbers, weight.Group, zeros.Slice(cell, groups), scales.Slice(cell, groups));
                }
            }

            switch (_scheme.Scales)
            {
                case ScaleKind.PowerOfTwo:
                    CompressedScales.PowersOfTwo(scales, _scheme.Highest, weight.Values, stored);
                    break;
                case ScaleKind.Divided:
                    CompressedScales.Divided(scales, _divisor, weight.Values, stored);
                    break;
                case ScaleKind.HalfWidth when zeros.IsEmpty:
                    CompressedScales.Symmetric(scales, _scheme.Highest, weight.Scales, weight.EmptyScale, stored);
                    break;
                default:
                    CompressedScales.Asymmetric(zeros, scales, weight.Values, weight.Scales, stored);
                    break;
            }
        }

        // Eight rows a word. Pieces begin with a word.
        private void PackZeros(long row, ReadOnlySpan<float> zeros)
        {
            var words = _zeros is null ? default : MemoryMarshal.Cast<byte, uint>(_zeros.Bytes);
            for (var i = 0; i < zeros.Length; i++)
            {
                var (r, group) = (row + (i / weight.Groups), i % weight.Groups);
                words[(int)((r / ZerosInWord * weight.Groups) + group)] |= (uint)(zeros[i] + 8) << (4 * (int)(r % ZerosInWord));
            }
        }

        private static (Encoder, RoundTripper) Kernels<TGrid>()
            where TGrid : struct, IRowGrid =>
            ((ReadOnlySpan<float> row, int group, ReadOnlySpan<float> scales, ReadOnlySpan<float> zeros, Span<byte> codes,
                ref TileStatistics statistics) => GroupedCodes.Encode<TGrid>(row, group, scales, zeros, codes, ref statistics),
            (row, group, scales, zeros) => GroupedCodes.RoundTrip<TGrid>(row, group, scales, zeros));
    }
}
