namespace UnslothMerge.Kernels.Bench;

/// <summary>A whole merge of bfloat16 on one core: decode, LoRA product, combine, over a buffer of rows in L2, beside its copy.</summary>
public class TileBenchmarks
{
    private const int Rows = 32;
    private const int Columns = 4096;
    private const double Bytes = 2.0 * Rows * Columns;
    private const int TileRows = 16;
    private const int TileColumns = 256;

    private readonly Plane<byte> _stored = new(2 * Rows * Columns);
    private readonly Plane<byte> _output = new(2 * Rows * Columns);
    private readonly Plane<float> _left = Fill.Random(Rows * 64, 1);
    private readonly Plane<float> _right = Fill.Random(Columns * 64, 2);
    private readonly Plane<float> _weight = new(TileRows * TileColumns);
    private readonly Plane<float> _delta = new(TileRows * TileColumns);

    private TileStatistics _statistics;

    [Params(16, 64)]
    public int Rank { get; set; }

    [GlobalSetup]
    public void Setup() => Combine.To<BFloat16Format>(Fill.Random(Rows * Columns, 3).Span, [], _stored.Span, ref _statistics);

    [Benchmark(Baseline = true), Work("GB/s", Bytes)]
    public void Memcpy() => _stored.Span.CopyTo(_output.Span);

    [Benchmark, Work("GB/s", Bytes)]
    public void Merge()
    {
        for (int column = 0; column < Columns; column += TileColumns)
        {
            for (int row = 0; row < Rows; row += TileRows)
            {
                Tile(row, column);
            }
        }
    }

    private void Tile(int firstRow, int column)
    {
        for (int row = 0; row < TileRows; row++)
        {
            FloatFormats.Decode<BFloat16Format>(
                _stored.Span.Slice(2 * (((firstRow + row) * Columns) + column), 2 * TileColumns),
                _weight.Span.Slice(row * TileColumns, TileColumns));
        }

        LoraKernel.Assign(_left.Span[(firstRow * Rank)..], _right.Span[(int)LoraPanels.Offset(Rank, column)..], _delta.Span,
            TileRows, TileColumns, Rank, TileColumns);
        for (int row = 0; row < TileRows; row++)
        {
            Combine.To<BFloat16Format>(
                _weight.Span.Slice(row * TileColumns, TileColumns),
                _delta.Span.Slice(row * TileColumns, TileColumns),
                _output.Span.Slice(2 * (((firstRow + row) * Columns) + column), 2 * TileColumns),
                ref _statistics);
        }
    }
}
