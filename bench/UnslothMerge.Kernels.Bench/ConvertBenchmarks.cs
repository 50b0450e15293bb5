namespace UnslothMerge.Kernels.Bench;

/// <summary>Decode, combine and 4-bit decode of one tile in L1, row by row, beside a copy of as many 16-bit elements.</summary>
public class ConvertBenchmarks
{
    private const int Rows = 16;
    private const int Columns = 256;
    private const int Count = Rows * Columns;
    private const int BlockSize = 64;
    private const double Bytes = 2.0 * Count;

    private readonly Plane<byte> _stored = new(2 * Count);
    private readonly Plane<byte> _output = new(2 * Count);
    private readonly Plane<byte> _codes = Fill.RandomBytes(Count / 2, 1);
    private readonly Plane<float> _weight = Fill.Random(Count, 2);
    private readonly Plane<float> _delta = Fill.Random(Count, 3);
    private readonly Plane<float> _table = Fill.Random(16, 4);
    private readonly Plane<float> _absmax = Fill.Random(Count / BlockSize, 5);

    private TileStatistics _statistics;

    [GlobalSetup]
    public void Setup() => Combine.To<BFloat16Format>(_weight.Span, [], _stored.Span, ref _statistics);

    [Benchmark(Baseline = true), Work("GB/s", Bytes)]
    public void Memcpy()
    {
        for (int row = 0; row < Rows; row++)
        {
            Row16(_stored, row).CopyTo(Row16(_output, row));
        }
    }

    [Benchmark, Work("GB/s", Bytes)]
    public void DecodeBFloat16() => Decode<BFloat16Format>();

    [Benchmark, Work("GB/s", Bytes)]
    public void DecodeHalf() => Decode<HalfFormat>();

    [Benchmark, Work("GB/s", Bytes)]
    public void CombineToBFloat16()
    {
        for (int row = 0; row < Rows; row++)
        {
            Combine.To<BFloat16Format>(Row(_weight, row), Row(_delta, row), Row16(_output, row), ref _statistics);
        }
    }

    [Benchmark, Work("GB/s", Bytes)]
    public void CombineToHalf()
    {
        for (int row = 0; row < Rows; row++)
        {
            Combine.To<HalfFormat>(Row(_weight, row), Row(_delta, row), Row16(_output, row), ref _statistics);
        }
    }

    [Benchmark, Work("GB/s", Bytes)]
    public void DecodeNf4() => DecodeNf4<SingleFormat>();

    [Benchmark, Work("GB/s", Bytes)]
    public void DecodeNf4RoundedToBFloat16() => DecodeNf4<BFloat16Format>();

    [Benchmark, Work("GB/s", Bytes)]
    public void DecodeNf4RoundedToHalf() => DecodeNf4<HalfFormat>();

    private static Span<byte> Row16(Plane<byte> plane, int row) => plane.Span.Slice(2 * row * Columns, 2 * Columns);

    private static Span<float> Row(Plane<float> plane, int row) => plane.Span.Slice(row * Columns, Columns);

    private void Decode<TFormat>()
        where TFormat : struct, IElementFormat
    {
        for (int row = 0; row < Rows; row++)
        {
            FloatFormats.Decode<TFormat>(Row16(_stored, row), Row(_weight, row));
        }
    }

    private void DecodeNf4<TFormat>()
        where TFormat : struct, IOutputFormat
    {
        for (int row = 0; row < Rows; row++)
        {
            FourBit.Decode<TFormat>(_codes.Span[(row * Columns / 2)..], 0, _table.Span,
                _absmax.Span[(row * Columns / BlockSize)..], BlockSize, Row(_weight, row));
        }
    }
}
