using static UnslothMerge.Tests.Simd.StoredFloats;

namespace UnslothMerge.Tests.Simd;

public sealed class ScaledCodesTests
{
    [Theory, ClassData(typeof(Widths))]
    public void Every_fp8_code_has_its_value(int width)
    {
        Check(default(E4M3Codes), code => Eight(code, exponentBits: 4, bias: 7, hasInfinity: false));
        Check(default(E5M2Codes), code => Eight(code, exponentBits: 5, bias: 15, hasInfinity: true));

        void Check<TCodes>(TCodes codes, Func<int, double> value)
            where TCodes : struct, ICodes
        {
            byte[] row = [.. Enumerable.Range(0, 256).Select(c => (byte)c)];
            float[] values = new float[256];
            ScaledCodes.Decode(codes, row, 0, [1f], [], 256, values, (SimdWidth)width);
            Assert.All(row, c => Assert.True(
                double.IsNaN(value(c)) ? float.IsNaN(values[c]) : Bits((float)value(c)) == Bits(values[c]), $"{c:X2}: {values[c]}"));
        }
    }

    [Theory, ClassData(typeof(Widths))]
    public void Any_part_of_a_row_decodes_as_element_by_element(int width) =>
        Gen.Select(Gen.Int[1, 200], Gen.Int[1, 8].Select(s => 16 * s), Gen.Int[0, 10], Gen.Bool, Gen.Int).Sample(
            (columns, block, kind, withZeros, seed) =>
            {
                var random = new Random(seed);
                int bits = kind switch { 0 or 1 => 8, 2 => 4, _ => kind - 2 };
                byte[] row = new byte[((columns * bits) + 7) / 8];
                random.NextBytes(row);
                float[] scales = [.. Enumerable.Range(0, (columns + block - 1) / block).Select(_ => random.NextSingle() - 0.5f)];
                float[] zeros = withZeros ? [.. scales.Select(_ => (float)random.Next(-8, 8))] : [];
                int column = random.Next(columns);
                int count = random.Next(columns - column + 1);
                float[] values = new float[count + 2];
                values.AsSpan().Fill(42);
                Decode(values.AsSpan(1, count));

                Assert.Equal((42f, 42f), (values[0], values[^1]));
                for (int i = 0; i < count; i++)
                {
                    int at = column + i;
                    float expected = ((float)Value(at) - (withZeros ? zeros[at / block] : 0)) * scales[at / block];
                    Assert.True(Bits(expected) == Bits(values[i + 1]) || (float.IsNaN(expected) && float.IsNaN(values[i + 1])),
                        $"kind {kind}, column {at}: {values[i + 1]}");
                }

                void Decode(Span<float> to)
                {
                    switch (kind)
                    {
                        case 0: ScaledCodes.Decode(default(E4M3Codes), row, column, scales, zeros, block, to, (SimdWidth)width); break;
                        case 1: ScaledCodes.Decode(default(Int8Codes), row, column, scales, zeros, block, to, (SimdWidth)width); break;
                        case 2: ScaledCodes.Decode(default(E2M1Codes), row, column, scales, zeros, block, to, (SimdWidth)width); break;
                        default: ScaledCodes.Decode(new IntegerCodes(bits), row, column, scales, zeros, block, to, (SimdWidth)width); break;
                    }
                }

                double Value(int at) => kind switch
                {
                    0 => Eight(row[at], exponentBits: 4, bias: 7, hasInfinity: false),
                    1 => (sbyte)row[at],
                    2 => E2M1((row[at / 2] >> (at % 2 * 4)) & 15),
                    _ =>
                        Enumerable.Range(0, bits).Sum(b => ((row[((at * bits) + b) / 8] >> (((at * bits) + b) % 8)) & 1) << b)
                        - (1 << (bits - 1)),
                };
            },
            iter: 1_500);

    [Fact]
    public void Powers_of_two_reach_from_denormals_to_NaN()
    {
        Assert.All(Enumerable.Range(0, 255), b => Assert.Equal(Math.ScaleB(1, b - 127), PowersOfTwo.Of((byte)b)));
        Assert.True(float.IsNaN(PowersOfTwo.Of(255)));
    }

    [Fact]
    public void Spans_that_are_too_short_are_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() =>
            ScaledCodes.Decode(default(E2M1Codes), new byte[1], 0, [1f], [], 16, new float[3]));
        Assert.Throws<ArgumentOutOfRangeException>(() =>
            ScaledCodes.Decode(default(E4M3Codes), new byte[40], 30, [1f], [], 32, new float[3]));
        Assert.Throws<ArgumentOutOfRangeException>(() =>
            ScaledCodes.Decode(default(E4M3Codes), new byte[40], 0, [1f], [], 24, new float[3]));
    }

    private static double E2M1(int code)
    {
        int exponent = (code >> 1) & 3;
        double magnitude = exponent == 0 ? (code & 1) / 2.0 : Math.ScaleB(1 + ((code & 1) / 2.0), exponent - 1);
        return code < 8 ? magnitude : -magnitude;
    }

    private static double Eight(int code, int exponentBits, int bias, bool hasInfinity)
    {
        int mantissaBits = 7 - exponentBits;
        int exponent = (code & 0x7F) >> mantissaBits;
        double fraction = (code & ((1 << mantissaBits) - 1)) / (double)(1 << mantissaBits);
        double magnitude = hasInfinity && exponent == 31 ? (fraction == 0 ? double.PositiveInfinity : double.NaN)
            : !hasInfinity && (code & 0x7F) == 0x7F ? double.NaN
            : exponent == 0 ? Math.ScaleB(fraction, 1 - bias)
            : Math.ScaleB(1 + fraction, exponent - bias);
        return code < 128 ? magnitude : -magnitude;
    }
}
