using static UnslothMerge.Tests.Simd.StoredFloats;

namespace UnslothMerge.Tests.Simd;

public sealed class FloatFormatsTests
{
    private static readonly ushort[] EveryUInt16 = [.. Enumerable.Range(0, 65536).Select(i => (ushort)i)];

    [Theory, ClassData(typeof(Widths))]
    public void Every_bfloat16_widens_to_its_bits(int width)
    {
        float[] values = new float[65536];
        FloatFormats.Decode<BFloat16Format>(Bytes(EveryUInt16), values, (SimdWidth)width);
        Assert.Equal(EveryUInt16.Select(i => (uint)i << 16), values.Select(Bits));
    }

    [Theory, ClassData(typeof(Widths))]
    public void Every_half_widens_as_in_dotnet(int width)
    {
        float[] values = new float[65536];
        FloatFormats.Decode<HalfFormat>(Bytes(EveryUInt16), values, (SimdWidth)width);
        AssertSame(EveryUInt16.Select(i => (float)BitConverter.UInt16BitsToHalf(i)), values);
    }

    [Theory, ClassData(typeof(Widths))]
    public void Every_bfloat16_and_half_survives_a_round_trip(int width)
    {
        RoundTrip<BFloat16Format>(width, i => float.IsNaN(Single((uint)i << 16)) ? (ushort)0x7FC0 : i);
        RoundTrip<HalfFormat>(width, i => System.Half.IsNaN(BitConverter.UInt16BitsToHalf(i)) ? (ushort)0x7E00 : i);
    }

    [Theory, ClassData(typeof(Widths))]
    public void Singles_keep_their_bits(int width) =>
        Gen.UInt.Array[0, 70].Sample(bits =>
        {
            float[] values = new float[bits.Length];
            FloatFormats.Decode<SingleFormat>(Bytes(bits), values, (SimdWidth)width);
            Assert.Equal(bits, values.Select(Bits));
        });

    [Theory, ClassData(typeof(Widths))]
    public void Doubles_are_rounded_once(int width) =>
        Gen.OneOf(Gen.Double, Gen.Float.Select(x => (double)x), Gen.Float.Select(x => x * (1 + Math.ScaleB(1, -24)))).Array[0, 70]
            .Sample(doubles =>
        {
            float[] values = new float[doubles.Length];
            FloatFormats.Decode<DoubleFormat>(Bytes(doubles), values, (SimdWidth)width);
            AssertSame(doubles.Select(d => (float)d), values);
        });

    [Theory, ClassData(typeof(Widths))]
    public void Decode_writes_its_elements_and_no_others(int width)
    {
        for (int count = 0; count < 50; count++)
        {
            float[] values = new float[count + 2];
            values.AsSpan().Fill(42);
            FloatFormats.Decode<BFloat16Format>(Bytes(EveryUInt16.AsSpan(0x3F80, count).ToArray()), values.AsSpan(1, count),
                (SimdWidth)width);
            Assert.Equal((42, 42), (values[0], values[^1]));
            Assert.Equal(Enumerable.Range(0x3F80, count).Select(i => (uint)i << 16), values[1..^1].Select(Bits));
        }
    }

    [Fact]
    public void Lengths_must_agree() =>
        Assert.Throws<ArgumentOutOfRangeException>(() => FloatFormats.Decode<BFloat16Format>(new byte[3], new float[1]));

    // To the bit, but for which NaN it is.
    private static void AssertSame(IEnumerable<float> expected, float[] values) =>
        Assert.Equal(expected.Select(v => float.IsNaN(v) ? ~0u : Bits(v)), values.Select(v => float.IsNaN(v) ? ~0u : Bits(v)));

    private static void RoundTrip<TFormat>(int width, Func<ushort, ushort> expected)
        where TFormat : struct, IOutputFormat
    {
        float[] values = new float[65536];
        byte[] stored = new byte[2 * 65536];
        TileStatistics statistics = default;
        FloatFormats.Decode<TFormat>(Bytes(EveryUInt16), values, (SimdWidth)width);
        Combine.To<TFormat>(values, [], stored, ref statistics, (SimdWidth)width);
        Assert.Equal(EveryUInt16.Select(expected), EveryUInt16.Select(i => BitConverter.ToUInt16(stored, 2 * i)));
    }
}
