namespace UnslothMerge.Tests.Simd;

public sealed class LoraKernelTests
{
    private static readonly Gen<(int Rows, int Rank, int Columns, int Seed)> Shapes =
        Gen.Select(Gen.Int[1, 17], Gen.Int[0, 70], Gen.Int[1, 100], Gen.Int);

    [Theory, ClassData(typeof(Widths))]
    public void The_sum_is_the_one_of_fused_fp32_in_ascending_order(int width) =>
        Shapes.Sample(shape => Check(shape.Rows, shape.Rank, shape.Columns, shape.Seed, width), iter: 300);

    [Theory, ClassData(typeof(Widths))]
    public void Every_count_of_rows_and_columns_works(int width)
    {
        for (int rows = 0; rows <= 17; rows++)
        {
            for (int columns = 0; columns <= 65; columns++)
            {
                Check(rows, 3, columns, (rows * 100) + columns, width);
            }
        }
    }

    [Theory, ClassData(typeof(Widths))]
    public void The_error_against_double_is_that_of_fp32(int width)
    {
        const int Rows = 9, Rank = 256, Columns = 40;
        var random = new Random(7);
        float[] left = Values(random, Rows * Rank);
        float[] right = Values(random, Rank * Columns);
        float[] delta = new float[Rows * Columns];
        LoraKernel.Run(left, Packed(right, Rank, Columns), delta, Rows, Columns, Rank, Columns, assign: false, (SimdWidth)width);
        Assert.All(delta.Index(), d =>
        {
            // The bound is Rank · 2^-24 · Σ|term|; rounding errors mostly cancel, so a tenth of it is ample.
            var (i, j) = (d.Index / Columns, d.Index % Columns);
            double[] terms = [.. Enumerable.Range(0, Rank).Select(k => (double)left[(i * Rank) + k] * right[(k * Columns) + j])];
            Assert.Equal(terms.Sum(), d.Item, 0.1 * Rank * terms.Sum(Math.Abs) / (1 << 24));
        });
    }

    [Theory, ClassData(typeof(Widths))]
    public void A_region_can_begin_at_any_panel(int width)
    {
        const int Rows = 5, Rank = 4, Columns = 90;
        var random = new Random(8);
        float[] left = Values(random, Rows * Rank);
        float[] packed = Packed(Values(random, Rank * Columns), Rank, Columns);
        float[] whole = new float[Rows * Columns];
        LoraKernel.Run(left, packed, whole, Rows, Columns, Rank, Columns, assign: false, (SimdWidth)width);

        float[] parts = new float[Rows * Columns];
        LoraKernel.Run(left, packed, parts, Rows, 64, Rank, Columns, assign: false, (SimdWidth)width);
        LoraKernel.Run(
            left, packed.AsSpan((int)LoraPanels.Offset(Rank, 64)), parts.AsSpan(64), Rows, Columns - 64, Rank, Columns, assign: false,
                (SimdWidth)width);
        Assert.Equal(whole, parts);
    }

    [Fact]
    public void Spans_that_are_too_short_are_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => LoraKernel.Accumulate(new float[7], new float[64], new float[8], 4, 2, 2, 2));
        Assert.Throws<ArgumentOutOfRangeException>(() => LoraKernel.Accumulate(new float[8], new float[63], new float[8], 4, 2, 2, 2));
        Assert.Throws<ArgumentOutOfRangeException>(() => LoraKernel.Accumulate(new float[8], new float[64], new float[7], 4, 2, 2, 2));
        Assert.Throws<ArgumentOutOfRangeException>(() => LoraPanels.Offset(2, 16));
    }

    private static void Check(int rows, int rank, int columns, int seed, int width)
    {
        var random = new Random(seed);
        int stride = columns + random.Next(3);
        float[] left = Values(random, rows * rank);
        float[] right = Values(random, rank * columns);
        float[] delta = Values(random, (rows * stride) + 1);
        float[] expected = [.. delta];
        for (int i = 0; i < rows; i++)
        {
            for (int j = 0; j < columns; j++)
            {
                float sum = 0;
                for (int k = 0; k < rank; k++)
                {
                    sum = MathF.FusedMultiplyAdd(left[(i * rank) + k], right[(k * columns) + j], sum);
                }

                expected[(i * stride) + j] += sum;
            }
        }

        float[] assigned = Values(random, delta.Length);
        float[] cleared = new float[delta.Length];
        LoraKernel.Run(left, Packed(right, rank, columns), delta, rows, columns, rank, stride, assign: false, (SimdWidth)width);
        Assert.True(expected.AsSpan().SequenceEqual(delta), $"{rows} rows, rank {rank}, {columns} columns");

        LoraKernel.Run(left, Packed(right, rank, columns), cleared, rows, columns, rank, stride, assign: false, (SimdWidth)width);
        float beyond = assigned[^1];
        LoraKernel.Run(left, Packed(right, rank, columns), assigned, rows, columns, rank, stride, assign: true, (SimdWidth)width);
        Assert.Equal(beyond, assigned[^1]);
        for (int i = 0; i < rows; i++)
        {
            Assert.Equal(
                MemoryMarshal.AsBytes(cleared.AsSpan(i * stride, columns)),
                MemoryMarshal.AsBytes(assigned.AsSpan(i * stride, columns)));
        }
    }

    private static float[] Values(Random random, int count) => [.. Enumerable.Range(0, count).Select(_ => random.NextSingle() - 0.5f)];

    // The rows of each panel follow one another, and the last panel is padded with zeros.
    private static float[] Packed(float[] right, int rank, int columns) =>
        [.. Enumerable.Range(0, (columns + LoraPanels.Width - 1) / LoraPanels.Width * rank * LoraPanels.Width).Select(i =>
        {
            var (panel, k, c) = (i / LoraPanels.Width / rank, i / LoraPanels.Width % rank, i % LoraPanels.Width);
            var column = (panel * LoraPanels.Width) + c;
            return column < columns ? right[(k * columns) + column] : 0;
        })];
}
