namespace UnslothMerge.Kernels.Bench;

/// <summary>Quantized formats, a tile at a time out of a panel in L2, and the quantization to four bits, beside a copy of as many 16-bit
/// elements.</summary>
public class QuantizedBenchmarks
{
    private const int Rows = 256;
    private const int Columns = 2048;
    private const int TileRows = 16;
    private const int TileColumns = 256;
    private const int Group = 128;
    private const int Groups = Columns / Group;
    private const double Bytes = 2.0 * Rows * Columns;

    private readonly Plane<byte> _codes = Fill.RandomBytes(Rows * Columns, 1);
    private readonly Plane<byte> _copy = new(2 * Rows * Columns);
    private readonly Plane<byte> _rounded = new(2 * Rows * Columns);
    private readonly Plane<float> _values = new(TileRows * TileColumns);
    private readonly Plane<float> _scales = Fill.Random(Rows * Columns / 16, 2);
    private readonly Plane<float> _zeros = Fill.Random(Rows * Columns / 16, 3);
    private readonly int[] _inOrder = [.. Enumerable.Range(0, Columns).Select(i => i / Group)];
    private readonly int[] _actOrder = [.. Enumerable.Range(0, Columns).Select(i => i / Group)];

    private TileStatistics _statistics;

    [GlobalSetup]
    public void Setup()
    {
        new Random(4).Shuffle(_actOrder);
        Combine.To<BFloat16Format>(Fill.Random(Rows * Columns, 5).Span, [], _rounded.Span, ref _statistics);
    }

    [Benchmark(Baseline = true), Work("GB/s", Bytes)]
    public void Memcpy() => _rounded.Span.CopyTo(_copy.Span);

    [Benchmark, Work("GB/s", Bytes)]
    public void Fp8() => Row(default(E4M3Codes), 128, zeros: false);

    [Benchmark, Work("GB/s", Bytes)]
    public void Fp8E5M2() => Row(default(E5M2Codes), 128, zeros: false);

    [Benchmark, Work("GB/s", Bytes)]
    public void Int8() => Row(default(Int8Codes), Columns, zeros: false);

    [Benchmark, Work("GB/s", Bytes)]
    public void Int4Asymmetric() => Row(new IntegerCodes(4), 32, zeros: true);

    [Benchmark, Work("GB/s", Bytes)]
    public void Int3() => Row(new IntegerCodes(3), 128, zeros: false);

    [Benchmark, Work("GB/s", Bytes)]
    public void NvFp4() => Row(default(E2M1Codes), 16, zeros: false);

    [Benchmark, Work("GB/s", Bytes)]
    public void Gptq() =>
        Tiles(part => TransposedCodes.DecodeWords(_codes.Span, 4, true, _inOrder, Panel(_zeros), Panel(_scales), Rows, part, _values.Span));

    [Benchmark, Work("GB/s", Bytes)]
    public void GptqActOrder3() =>
        Tiles(part =>
            TransposedCodes.DecodeWords(_codes.Span, 3, true, _actOrder, Panel(_zeros), Panel(_scales), Rows, part, _values.Span));

    [Benchmark, Work("GB/s", Bytes)]
    public void Awq() =>
        Tiles(part =>
            TransposedCodes.DecodeWords(_codes.Span, 4, false, _inOrder, Panel(_zeros), Panel(_scales), Rows, part, _values.Span));

    [Benchmark, Work("GB/s", Bytes)]
    public void MxFp4() => Tiles(part => TransposedCodes.DecodeMxFp4(_codes.Span, _codes.Span, Rows / 32, part, _values.Span));

    [Benchmark, Work("GB/s", Bytes)]
    public void EncodeNf4() =>
        FourBitCodes.NF4.Encoder.Encode<BFloat16Format>(_rounded.Span, 64, _copy.Span[..(Rows * Columns / 2)],
            _scales.Span[..(Rows * Columns / 64)], ref _statistics);

    private static ReadOnlySpan<float> Panel(Plane<float> plane) => plane.Span[..(Groups * Rows)];

    private void Row<TCodes>(TCodes codes, int block, bool zeros)
        where TCodes : struct, ICodes
    {
        int bytes = Columns * codes.Bits / 8;
        int scales = Columns / block;
        for (int row = 0; row < Rows; row++)
        {
            for (int column = 0; column < Columns; column += TileColumns)
            {
                ScaledCodes.Decode(codes, _codes.Span.Slice(row * bytes, bytes), column, _scales.Span.Slice(row * scales, scales),
                    zeros ? _zeros.Span.Slice(row * scales, scales) : [], block, _values.Span[..TileColumns]);
            }
        }
    }

    private static void Tiles(Action<TransposedCodes.Part> decode)
    {
        for (int row = 0; row < Rows; row += TileRows)
        {
            for (int column = 0; column < Columns; column += TileColumns)
            {
                decode(new TransposedCodes.Part(row, TileRows, column, TileColumns));
            }
        }
    }
}
