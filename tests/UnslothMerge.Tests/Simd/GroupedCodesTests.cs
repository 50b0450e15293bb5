namespace UnslothMerge.Tests.Simd;

public sealed class GroupedCodesTests
{
    public static TheoryData<int, int> Shapes => new() { { 64, 16 }, { 96, 32 }, { 256, 128 }, { 48, 48 }, { 37, 37 }, { 5, 5 } };

    [Theory, MemberData(nameof(Shapes))]
    public void Ranges_are_those_of_each_group(int columns, int group)
    {
        var random = new Random(columns);
        float[] row = [.. Enumerable.Range(0, columns).Select(_ => random.NextSingle() - 0.5f)];
        var (largest, lowest, highest) = (new float[columns / group], new float[columns / group], new float[columns / group]);
        GroupedCodes.Largest(row, group, largest);
        GroupedCodes.Range(row, group, lowest, highest);
        var groups = row.Chunk(group).ToList();
        Assert.Equal(groups.Select(g => g.Max(Math.Abs)), largest);
        Assert.Equal(groups.Select(g => Math.Min(0, g.Min())), lowest);
        Assert.Equal(groups.Select(g => Math.Max(0, g.Max())), highest);
    }

    [Fact]
    public void A_group_of_one_sign_ranges_to_zero()
    {
        var (lowest, highest) = (new float[2], new float[2]);
        GroupedCodes.Range([.. Enumerable.Repeat(3f, 16), .. Enumerable.Repeat(-4f, 16)], 16, lowest, highest);
        Assert.Equal((float[])[0, -4], lowest);
        Assert.Equal((float[])[3, 0], highest);
    }

    /// <summary>And codes may be written over the values.</summary>
    [Theory, ClassData(typeof(Widths))]
    public void Every_width_gives_the_same_codes_and_sums(int width) =>
        Gen.Select(Gen.Int[1, 9], Gen.Int[0, 3], Gen.Int).Sample((groups, size, seed) =>
        {
            var group = size == 3 ? new Random(seed).Next(1, 70) : 16 << size;
            groups = size == 3 ? 1 : groups;
            Same<E4M3Grid>();
            Same<SignedByteGrid>();
            Same<OffsetByteGrid>();
            if (size < 3)
            {
                Same<E2M1Grid>();
                Same<OffsetNibbleGrid>();
            }

            void Same<TGrid>()
                where TGrid : struct, IRowGrid => Assert.Equal(
                    Encode<TGrid>(SimdWidth.Vector128, groups, group, seed), Encode<TGrid>((SimdWidth)width, groups, group, seed));
        });

    [Fact]
    public void Four_bit_floats_keep_the_sign_of_what_rounds_to_zero_but_not_of_zero()
    {
        float[] row = [0.25f, -0.25f, -0f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5, -5, 7, -7, 0.26f, -0.1f, 0, 6];
        var codes = new byte[8];
        var none = default(TileStatistics);
        GroupedCodes.Encode<E2M1Grid>(row, 16, [1], default, codes, ref none);
        Assert.Equal([0, 8, 0, 2, 2, 4, 4, 6, 6, 14, 7, 15, 1, 8, 0, 7], codes.SelectMany(b => new[] { b & 15, b >> 4 }));
    }

    [Fact]
    public void A_zero_point_is_added_before_the_rounding()
    {
        float[] row = [0.5f, 1.5f, -0.5f, -9, 9, 0, 2.5f, -2.5f, 0, 0, 0, 0, 0, 0, 0, 0];
        var codes = new byte[8];
        var none = default(TileStatistics);
        GroupedCodes.Encode<OffsetNibbleGrid>(row, 16, [1], [1], codes, ref none);
        Assert.Equal([2, 2, 0, -8, 7, 1, 4, -2], codes.Take(4).SelectMany(b => new[] { (b & 15) - 8, (b >> 4) - 8 }));
    }

    private static (string Codes, double Values, double Errors) Encode<TGrid>(SimdWidth width, int groups, int group, int seed)
        where TGrid : struct, IRowGrid
    {
        var random = new Random(seed);
        float[] row = [.. Enumerable.Range(0, groups * group).Select(_ => (float)((random.NextDouble() - 0.5) * 20))];
        float[] scales = [.. Enumerable.Range(0, groups).Select(_ => (float)Math.Pow(10, random.Next(-2, 2)))];
        float[] zeros = TGrid.Bits == 4 ? [.. Enumerable.Range(0, groups).Select(_ => (float)random.Next(-8, 8))] : [];
        var codes = MemoryMarshal.AsBytes(row.AsSpan())[..(row.Length * TGrid.Bits / 8)];
        var statistics = default(TileStatistics);
        GroupedCodes.Encode<TGrid>(row, group, scales, zeros, codes, ref statistics, width);
        return (Convert.ToHexString(codes), statistics.ValueSquares, statistics.ErrorSquares);
    }
}
