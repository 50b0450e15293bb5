using static UnslothMerge.Tests.Simd.StoredFloats;

namespace UnslothMerge.Tests.Simd;

/// <summary>Quantization to four bits against bitsandbytes' own way: a decision at each threshold, one value after the other.</summary>
public sealed class FourBitEncoderTests
{
    // The trees of dQuantizeNF4 and dQuantizeFP4, as lists.
    private static readonly float[] NormalThresholds =
    [
        -0.8480964004993439f, -0.6106329262256622f, -0.4599952697753906f, -0.33967943489551544f, -0.23460740596055984f,
            -0.13791173323988914f, -0.045525018125772476f, 0.03979014977812767f,
        0.1202552504837513f, 0.2035212516784668f, 0.2920137718319893f, 0.3893125355243683f, 0.5016634166240692f, 0.6427869200706482f,
            0.8614784181118011f,
    ];

    private static readonly (float Threshold, int Code)[] FloatThresholds =
        [(0.8333333f, 3), (0.583333f, 2), (0.4166667f, 5), (0.29166667f, 4), (0.20833333f, 7), (0.0859375f, 6), (0.00260417f, 1)];

    public static MatrixTheoryData<int, string, bool> All => new([32, 128, 256, 512], ["nf4", "fp4"], [true, false]);

    [Theory, MemberData(nameof(All))]
    public void Blocks_are_quantized_as_value_by_value(int width, string name, bool brain) =>
        Gen.Select(Gen.Int[1, 6].Select(s => 16 << s), Gen.Int[1, 700], Gen.Int).Sample(
            (blockSize, count, seed) =>
            {
                var random = new Random(seed);
                float magnitude = random.Next(5) switch { 0 => 1e-7f, 1 => 0, 2 => 60000, _ => 1 };
                ushort[] stored = [.. Enumerable.Range(0, count).Select(_ => Round((random.NextSingle() - 0.5f) * magnitude))];
                int blocks = (count + blockSize - 1) / blockSize;
                byte[] packed = new byte[(count + 1) / 2];
                float[] absMax = new float[blocks];
                TileStatistics statistics = default;
                FourBitEncoder encoder = FourBitCodes.Of(name).Encoder;
                if (brain)
                {
                    encoder.Encode<BFloat16Format>(Bytes(stored), blockSize, packed, absMax, ref statistics, (SimdWidth)width);
                }
                else
                {
                    encoder.Encode<HalfFormat>(Bytes(stored), blockSize, packed, absMax, ref statistics, (SimdWidth)width);
                }

                double squares = 0;
                for (int b = 0; b < blocks; b++)
                {
                    int start = b * blockSize;
                    float[] values = [.. stored.Skip(start).Take(blockSize).Select(Widen)];
                    float largest = values.Max(MathF.Abs);
                    float clamped = Math.Max(largest, 1e-38f);
                    float scale = values.Length < blockSize ? clamped : largest;
                    Assert.Equal(scale, absMax[b]);
                    for (int i = 0; i < values.Length; i++)
                    {
                        int code = (packed[(start + i) / 2] >> ((start + i) % 2 == 0 ? 4 : 0)) & 15;
                        Assert.Equal(Code(name, values[i] * (1 / clamped)), code);
                        double error = values[i] - ((double)FourBitCodes.Of(name).Values.Span[code] * scale);
                        squares += error * error;
                    }
                }

                // Each error is a difference in fp32, off by a rounding or two of the values themselves.
                double off = absMax.Max() * 2e-7;
                Assert.Equal(squares, statistics.ErrorSquares,
                    (squares * 1e-4) + (2 * off * Math.Sqrt(squares * count)) + (count * off * off) + 1e-30);
                Assert.True(count % 2 == 0 || (packed[^1] & 15) == 0);

                ushort Round(float value) => brain ? BFloat16(value) : Half(value);
                float Widen(ushort bits) => brain ? Single((uint)bits << 16) : (float)BitConverter.UInt16BitsToHalf(bits);
            },
            iter: 100);

    [Fact]
    public void The_dynamic_map_has_256_ascending_values_around_zero()
    {
        Assert.Equal(256, DynamicMap.Values.Length);
        Assert.Equal((0f, 1f), (DynamicMap.Values[127], DynamicMap.Values[255]));
        Assert.Equal(DynamicMap.Values.ToArray().Order(), DynamicMap.Values.ToArray());
    }

    [Fact]
    public void The_nearest_of_the_dynamic_map_is_found_for_any_number() =>
        Gen.OneOf(Gen.Float[-1.01f, 1.01f], Gen.Float[-1e-3f, 1e-3f], Gen.Int[0, 255].Select(i => DynamicMap.Values[i])).Sample(
            number =>
            {
                float[] map = [.. DynamicMap.Values];
                float least = map.Min(v => Math.Abs(v - number));
                byte[] code = new byte[1];
                DynamicMap.Encode([number], 0, 1, code);
                Assert.Equal(least, Math.Abs(map[code[0]] - number));
            },
            iter: 10_000);

    private static int Code(string name, float x)
    {
        if (name == "nf4")
        {
            return NormalThresholds.Count(t => x > t);
        }

        int magnitude = FloatThresholds.FirstOrDefault(t => MathF.Abs(x) > t.Threshold).Code;
        return x < 0 ? magnitude | 8 : magnitude;
    }
}
