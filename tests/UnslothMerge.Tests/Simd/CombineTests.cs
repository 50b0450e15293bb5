using static UnslothMerge.Tests.Simd.StoredFloats;

namespace UnslothMerge.Tests.Simd;

public sealed class CombineTests
{
    /// <summary>Any bits, values near a tie of either 16-bit format, denormals, and everyday weights.</summary>
    private static readonly Gen<float> AnyFloat = Gen.OneOf(
        Gen.UInt.Select(Single),
        Gen.Select(Gen.UInt[0, 0xFFFF], Gen.Int[-1, 1]).Select((high, off) => Single((uint)(((long)high << 16) + 0x8000 + off))),
        Gen.Select(Gen.UInt[0x8800, 0x11FFF], Gen.Int[-1, 1]).Select((high, off) => Single((uint)(((long)high << 13) + 0x1000 + off))),
        Gen.Float[-1e-7f, 1e-7f],
        Gen.Float[65400, 65600],
        Gen.Float[-1, 1]);

    [Theory, ClassData(typeof(Widths))]
    public void Conversions_round_once_to_nearest_even(int width) =>
        AnyFloat.Array[0, 70].Sample(weight => Check(weight, [], width), iter: 20_000);

    [Theory, ClassData(typeof(Widths))]
    public void Sums_round_once_to_nearest_even(int width) =>
        Gen.Select(AnyFloat, AnyFloat).Array[1, 70].Sample(
            pairs => Check([.. pairs.Select(p => p.Item1)], [.. pairs.Select(p => p.Item2)], width), iter: 20_000);

    [Theory, ClassData(typeof(Widths))]
    public void Half_rounds_as_dotnet_over_a_grid_of_all_exponents(int width)
    {
        // Every pattern of the bits around the rounding position, for every exponent and sign.
        float[] weight = [.. Enumerable.Range(0, 1 << 20).Select(i => Single((uint)i << 12)),
            .. Enumerable.Range(0, 1 << 20).Select(i => Single(((uint)i << 12) | 1))];
        Check(weight, [], width);
    }

    [Theory, ClassData(typeof(Widths))]
    public void Ties_go_to_even(int width)
    {
        Assert.Equal(0x3F80, ToUInt16<BFloat16Format>(Single(0x3F80_8000), width));
        Assert.Equal(0x3F82, ToUInt16<BFloat16Format>(Single(0x3F81_8000), width));
        Assert.Equal(0x3F81, ToUInt16<BFloat16Format>(Single(0x3F80_8001), width));
        Assert.Equal(0x3C00, ToUInt16<HalfFormat>(1 + MathF.ScaleB(1, -11), width));
        Assert.Equal(0x3C02, ToUInt16<HalfFormat>(1 + (3 * MathF.ScaleB(1, -11)), width));
        Assert.Equal(0x0000, ToUInt16<HalfFormat>(MathF.ScaleB(1, -25), width));
        Assert.Equal(0x0002, ToUInt16<HalfFormat>(3 * MathF.ScaleB(1, -25), width));
    }

    [Theory, ClassData(typeof(Widths))]
    public void Overflow_is_told(int width)
    {
        Assert.False(NonFinite<HalfFormat>(65519.99f, width));
        Assert.True(NonFinite<HalfFormat>(65520, width));
        Assert.True(NonFinite<HalfFormat>(-70000, width));
        Assert.False(NonFinite<BFloat16Format>(Single(0x7F7F_7FFF), width));
        Assert.True(NonFinite<BFloat16Format>(-Single(0x7F7F_8000), width));
        Assert.False(NonFinite<SingleFormat>(float.MaxValue, width));
        Assert.True(NonFinite<SingleFormat>(float.NegativeInfinity, width));
        Assert.True(NonFinite<SingleFormat>(float.NaN, width));
    }

    [Theory, ClassData(typeof(Widths))]
    public void A_NaN_is_never_stored_as_infinity(int width)
    {
        foreach (uint bits in (uint[])[0x7F80_0001, 0xFF80_0001, 0x7FFF_FFFF, 0xFFFF_FFFF, 0x7FC0_0000])
        {
            Assert.Equal(0x7FC0, ToUInt16<BFloat16Format>(Single(bits), width));
            Assert.Equal(0x7E00, ToUInt16<HalfFormat>(Single(bits), width));
        }
    }

    [Theory, ClassData(typeof(Widths))]
    public void A_conversion_keeps_negative_zero_and_a_sum_does_not(int width)
    {
        byte[] stored = new byte[2];
        TileStatistics statistics = default;
        Combine.To<BFloat16Format>([-0f], [], stored, ref statistics, (SimdWidth)width);
        Assert.Equal(0x8000, BitConverter.ToUInt16(stored));
        Combine.To<BFloat16Format>([-0f], [0f], stored, ref statistics, (SimdWidth)width);
        Assert.Equal(0x0000, BitConverter.ToUInt16(stored));
    }

    [Theory, ClassData(typeof(Widths))]
    public void Statistics_add_up_over_segments(int width)
    {
        byte[] stored = new byte[8];
        TileStatistics statistics = default;
        Combine.To<SingleFormat>([3, 4], [1, 2], stored, ref statistics, (SimdWidth)width);
        Combine.To<SingleFormat>([2, 0], [0, -2], stored, ref statistics, (SimdWidth)width);
        Assert.Equal(29, statistics.WeightSquares);
        Assert.Equal(9, statistics.DeltaSquares);
        Assert.False(statistics.NonFinite);
    }

    [Fact]
    public void Lengths_must_agree()
    {
        TileStatistics statistics = default;
        Assert.Throws<ArgumentOutOfRangeException>(() => Combine.To<HalfFormat>(new float[2], new float[1], new byte[4], ref statistics));
        Assert.Throws<ArgumentOutOfRangeException>(() => Combine.To<HalfFormat>(new float[2], [], new byte[3], ref statistics));
    }

    [Theory, ClassData(typeof(Widths))]
    public void Stored_weights_are_added_to_as_decoded_ones(int width) =>
        Gen.Select(Gen.Byte.Array[8 * 3 * 40], Gen.Int[1, 3], Gen.Int[1, 37], Gen.Int[0, 3]).Sample(
            (bytes, rows, columns, apart) =>
            {
                CheckStored<BFloat16Format, BFloat16Format>(bytes, rows, columns, columns + apart, width);
                CheckStored<HalfFormat, BFloat16Format>(bytes, rows, columns, columns + apart, width);
                CheckStored<SingleFormat, HalfFormat>(bytes, rows, columns, columns + apart, width);
                CheckStored<DoubleFormat, SingleFormat>(bytes, rows, columns, columns + apart, width);
            },
            iter: 500);

    /// <summary>Against the rows decoded and combined one by one; the results lie where the weights did, if both fit.</summary>
    private static void CheckStored<TSource, TFormat>(byte[] bytes, int rows, int columns, int stride, int width)
        where TSource : struct, IElementFormat
        where TFormat : struct, IOutputFormat
    {
        float[] delta = [.. Enumerable.Range(0, rows * columns).Select(i => (i % 11) - 5f)];
        byte[] weight = bytes[..(rows * stride * TSource.Size)];
        byte[] expected = TSource.Size == TFormat.Size ? [.. weight] : new byte[rows * stride * TFormat.Size];
        bool nonFinite = false;
        for (int row = 0; row < rows; row++)
        {
            float[] values = new float[columns];
            FloatFormats.Decode<TSource>(weight.AsSpan(row * stride * TSource.Size, columns * TSource.Size), values, (SimdWidth)width);
            TileStatistics own = default;
            Combine.To<TFormat>(values, delta.AsSpan(row * columns, columns),
                expected.AsSpan(row * stride * TFormat.Size, columns * TFormat.Size), ref own, (SimdWidth)width);
            nonFinite |= own.NonFinite;
        }

        byte[] stored = new byte[rows * stride * TFormat.Size];
        Span<byte> target = TSource.Size == TFormat.Size ? weight : stored;
        TileStatistics statistics = default;
        Combine.Rows<TSource, TFormat>(weight, delta, target, rows, columns, stride, stride, ref statistics, (SimdWidth)width);
        Assert.Equal(nonFinite, statistics.NonFinite);
        if (!nonFinite)
        {
            Assert.True(expected.AsSpan().SequenceEqual(target), $"{typeof(TSource).Name} to {typeof(TFormat).Name}");
        }
    }

    private static void Check(float[] weight, float[] delta, int width)
    {
        float[] sum = delta.Length == 0 ? weight : [.. weight.Zip(delta, (w, d) => w + d)];
        Check<BFloat16Format>(weight, delta, Bytes([.. sum.Select(x => BFloat16(x))]),
            [.. sum.Select(x => Single((uint)BFloat16(x) << 16))], width);
        Check<HalfFormat>(weight, delta, Bytes([.. sum.Select(Half)]), [.. sum.Select(x => (float)BitConverter.UInt16BitsToHalf(Half(x)))],
            width);
        Check<SingleFormat>(weight, delta, Bytes([.. sum.Select(x => float.IsNaN(x) ? 0x7FC0_0000 : Bits(x))]), sum, width);
    }

    private static void Check<TFormat>(float[] weight, float[] delta, byte[] expected, float[] rounded, int width)
        where TFormat : struct, IOutputFormat
    {
        byte[] stored = new byte[expected.Length + 2];
        stored[0] = stored[^1] = 0xA5;
        TileStatistics statistics = default;
        Combine.To<TFormat>(weight, delta, stored.AsSpan(1, expected.Length), ref statistics, (SimdWidth)width);
        Assert.True(expected.AsSpan().SequenceEqual(stored.AsSpan(1, expected.Length)), typeof(TFormat).Name);
        Assert.Equal((0xA5, 0xA5), (stored[0], stored[^1]));
        Assert.Equal(rounded.Any(x => !float.IsFinite(x)), statistics.NonFinite);
        Assert.Equal(Squares(weight), statistics.WeightSquares);
        Assert.Equal(Squares(delta), statistics.DeltaSquares);
    }

    /// <summary>The sum as TileStatistics defines it.</summary>
    private static double Squares(float[] values)
    {
        float[] lanes = new float[16];
        int whole = values.Length / 16 * 16;
        for (int i = 0; i < values.Length; i++)
        {
            lanes[i % 16] = i < whole
                ? MathF.FusedMultiplyAdd(values[i], values[i], lanes[i % 16])
                : lanes[i % 16] + (values[i] * values[i]);
        }

        double[] fold = new double[4];
        for (int i = 0; i < 4; i++)
        {
            fold[i] = ((double)lanes[i] + lanes[i + 4]) + ((double)lanes[i + 8] + lanes[i + 12]);
        }

        return (fold[0] + fold[2]) + (fold[1] + fold[3]);
    }

    private static ushort ToUInt16<TFormat>(float value, int width)
        where TFormat : struct, IOutputFormat
    {
        byte[] stored = new byte[34];
        TileStatistics statistics = default;
        Combine.To<TFormat>([.. Enumerable.Repeat(value, 17)], [], stored, ref statistics, (SimdWidth)width);
        Assert.Equal(BitConverter.ToUInt16(stored), BitConverter.ToUInt16(stored, 32));
        return BitConverter.ToUInt16(stored);
    }

    private static bool NonFinite<TFormat>(float value, int width)
        where TFormat : struct, IOutputFormat
    {
        // In the last lane of a whole sixteen, and in the rest after it.
        bool[] told = new bool[2];
        for (int at = 15; at <= 16; at++)
        {
            float[] weight = new float[17];
            weight[at] = value;
            TileStatistics statistics = default;
            Combine.To<TFormat>(weight, new float[17], new byte[17 * TFormat.Size], ref statistics, (SimdWidth)width);
            told[at - 15] = statistics.NonFinite;
        }

        Assert.Equal(told[0], told[1]);
        return told[0];
    }
}
