namespace UnslothMerge.Tests.Simd;

public sealed class QuantizationTests
{
    public static TheoryData<string> Floats => ["E4M3", "E5M2", "E2M1"];

    [Theory, MemberData(nameof(Floats))]
    public void A_small_float_is_the_nearest_one_of_every_bfloat16(string name)
    {
        var (grid, numbers, signBit) = Grid(name);
        float[] values = [.. Enumerable.Range(0, 1 << 16).Select(i => BitConverter.UInt32BitsToSingle((uint)i << 16))
            .Select(v => float.IsFinite(v) ? v : 0)];
        var codes = new byte[values.Length];
        var statistics = default(TileStatistics);
        Quantization.Encode(grid, values, 1, codes, ref statistics);
        Assert.Equal(values.Select(v => Nearest(numbers, v, signBit)), codes);
    }

    [Theory, MemberData(nameof(Floats))]
    public void Ties_go_to_the_even_code_and_numbers_to_themselves(string name)
    {
        var (grid, numbers, signBit) = Grid(name);
        float[] values = [.. numbers, .. numbers.Skip(1).Zip(numbers, (a, b) => (float)(((double)a + b) / 2)), numbers[^1] * 2,
            float.MaxValue];
        var codes = new byte[values.Length];
        var statistics = default(TileStatistics);
        Quantization.Encode(grid, values, 1, codes, ref statistics);
        Assert.Equal(values.Select(v => Nearest(numbers, v, signBit)), codes);
        Assert.Equal(Enumerable.Range(0, numbers.Length).Select(c => (byte)c), codes.Take(numbers.Length));
    }

    [Theory, ClassData(typeof(Widths))]
    public void Every_width_gives_the_same_codes_and_sums(int width) =>
        Gen.Select(Gen.Int[0, 100], Gen.Int, Gen.Int[0, 3]).Sample((count, seed, kind) =>
        {
            var random = new Random(seed);
            float[] values = [.. Enumerable.Range(0, count)
                .Select(_ => (float)((random.NextDouble() - 0.5) * Math.Pow(10, random.Next(-6, 4))))];
            var scale = (float)Math.Pow(10, random.Next(-4, 2)) * (random.Next(2) == 0 ? 1 : -1);
            Assert.Equal(Encode(SimdWidth.Vector128), Encode((SimdWidth)width));
            Assert.Equal(values.Select(MathF.Abs).DefaultIfEmpty().Max(), Quantization.LargestMagnitude(values, (SimdWidth)width));

            string Encode(SimdWidth chosen)
            {
                var codes = new byte[count];
                var statistics = default(TileStatistics);
                if (kind == 3)
                {
                    Quantization.Encode(new IntegerGrid(-8, 7, -3, 8), values, scale, codes, ref statistics, chosen);
                }
                else
                {
                    Quantization.Encode(Grid(new[] { "E4M3", "E5M2", "E2M1" }[kind]).Grid, values, scale, codes, ref statistics, chosen);
                }

                return $"{Convert.ToHexString(codes)} {statistics}";
            }
        });

    [Fact]
    public void An_integer_is_the_nearest_one_around_its_zero_point() =>
        Gen.Select(Gen.Int[-8, 7], Gen.Float[-20, 20].Array[1, 40]).Sample((zero, values) =>
        {
            var codes = new byte[values.Length];
            var statistics = default(TileStatistics);
            Quantization.Encode(new IntegerGrid(-8, 7, zero, 8), values, 0.5f, codes, ref statistics);
            Assert.Equal(values.Select(v => (byte)(Math.Clamp(Math.Round(v / 0.5) + zero, -8, 7) + 8)), codes);
            var lost = values.Zip(codes, (v, c) => Math.Pow(((c - 8 - zero) * 0.5) - v, 2)).Sum();
            Assert.Equal(lost, statistics.ErrorSquares, 1e-4 * (1 + lost));
        });

    private static (FloatGrid Grid, float[] Numbers, int SignBit) Grid(string name) => name switch
    {
        "E4M3" => (new FloatGrid(3, 7, 7, 448), Numbers(3, 7, 0x7E), 7),
        "E5M2" => (new FloatGrid(2, 15, 7, 57344), Numbers(2, 15, 0x7B), 7),
        _ => (new FloatGrid(1, 1, 3, 6), [0, 0.5f, 1, 1.5f, 2, 3, 4, 6], 3),
    };

    // The positive numbers in the order of their codes.
    private static float[] Numbers(int mantissaBits, int bias, int last) => [.. Enumerable.Range(0, last + 1).Select(code =>
    {
        var (exponent, mantissa) = (code >> mantissaBits, code & ((1 << mantissaBits) - 1));
        return exponent == 0
            ? MathF.ScaleB(mantissa, 1 - bias - mantissaBits)
            : MathF.ScaleB((1 << mantissaBits) + mantissa, exponent - bias - mantissaBits);
    })];

    private static byte Nearest(float[] numbers, float value, int signBit)
    {
        var magnitude = Math.Min(Math.Abs((double)value), numbers[^1]);
        var best = 0;
        for (var code = 1; code < numbers.Length; code++)
        {
            var (old, mine) = (Math.Abs(numbers[best] - magnitude), Math.Abs(numbers[code] - magnitude));
            best = mine < old || (mine == old && code % 2 == 0) ? code : best;
        }

        return (byte)(best | (float.IsNegative(value) ? 1 << signBit : 0));
    }
}
