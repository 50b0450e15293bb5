using UnslothMerge.Formats;
using UnslothMerge.Formats.BitsAndBytes;
using static UnslothMerge.Tests.Simd.StoredFloats;

namespace UnslothMerge.Tests.Simd;

public sealed class FourBitTests
{
    private static readonly float[] Nf4 = FourBitCodes.NF4.Values.ToArray();

    [Theory, ClassData(typeof(Widths))]
    public void Any_part_of_a_tensor_decodes_as_element_by_element(int width) =>
        Gen.Select(Gen.Int[1, 8].Select(sixteens => 16 * sixteens), Gen.Int[1, 400], Gen.Int, Gen.Int[0, 2]).Sample(
            (blockSize, elements, seed, format) =>
            {
                var random = new Random(seed);
                byte[] packed = new byte[(elements + 1) / 2];
                random.NextBytes(packed);
                float[] absmax = [.. Enumerable.Range(0, (elements + blockSize - 1) / blockSize).Select(_ => Scale(random))];

                int first = random.Next(elements);
                int count = random.Next(elements - first + 1);
                float[] values = new float[count + 2];
                values.AsSpan().Fill(42);

                // Exactly what the part needs, so that reading beyond it is caught by the checks of length.
                int lastByte = count == 0 ? first / 2 : ((first + count - 1) / 2) + 1;
                int lastBlock = count == 0 ? first / blockSize : ((first + count - 1) / blockSize) + 1;
                var bytes = packed.AsSpan((first / blockSize * blockSize / 2)..lastByte);
                var scales = absmax.AsSpan((first / blockSize)..lastBlock);
                var target = values.AsSpan(1, count);
                int position = first % blockSize;
                switch (format)
                {
                    case 0: FourBit.Decode<SingleFormat>(bytes, position, Nf4, scales, blockSize, target, (SimdWidth)width); break;
                    case 1: FourBit.Decode<BFloat16Format>(bytes, position, Nf4, scales, blockSize, target, (SimdWidth)width); break;
                    default: FourBit.Decode<HalfFormat>(bytes, position, Nf4, scales, blockSize, target, (SimdWidth)width); break;
                }

                Assert.Equal((42f, 42f), (values[0], values[^1]));
                for (int i = 0; i < count; i++)
                {
                    int element = first + i;
                    int code = element % 2 == 0 ? packed[element / 2] >> 4 : packed[element / 2] & 15;
                    float expected = Rounded(Nf4[code] * absmax[element / blockSize], format);
                    Assert.True(Bits(expected) == Bits(values[i + 1]),
                        $"format {format}, blocks of {blockSize}, element {element} of {first}+{count}");
                }
            },
            iter: 5_000);

    [Fact]
    public void Positions_beyond_two_billion_elements_work()
    {
        // A row of 96 elements from element 2^33 - 32, in the middle of a block of 64, to the end of the next block.
        var file = new StoredFile("m", default);
        var tensor = new StoredTensor("m.weight", TensorType.U8, [0], file, 0, 0);
        var source = new FourBitSource(
            new FourBitTensors(tensor, tensor, tensor, null, null, tensor), new QuantState("nf4", 64, TensorType.BF16, [], null, 0));
        var extent = source.ExtentOf(new MatrixView(1L << 30, 96), ((1L << 33) - 32) / 96, 1);
        Assert.Equal(new FourBitExtent((1L << 32) - 32, 64, (1L << 27) - 1, 2), extent);
    }

    [Fact]
    public void Nested_scales_are_two_rounded_operations()
    {
        var random = new Random(3);
        float[] map = [.. Enumerable.Range(0, 256).Select(_ => random.NextSingle() - 0.5f)];
        float[] nested = [.. Enumerable.Range(0, 5).Select(_ => random.NextSingle())];
        byte[] q = new byte[1200];
        random.NextBytes(q);
        const float Offset = 0.043f;
        float[] all = new float[1200];
        FourBit.NestedAbsmax(q, map, nested, 0, 256, Offset, all);
        bool differsFromFused = false;
        for (int i = 0; i < q.Length; i++)
        {
            // A product of two floats is exact in double, so the cast is its one rounding.
            float product = (float)((double)map[q[i]] * nested[i / 256]);
            float expected = (float)((double)product + Offset);
            Assert.Equal(Bits(expected), Bits(all[i]));
            differsFromFused |= expected != MathF.FusedMultiplyAdd(map[q[i]], nested[i / 256], Offset);
        }

        Assert.True(differsFromFused);

        float[] part = new float[700];
        FourBit.NestedAbsmax(q.AsSpan(250, 700), map, nested, 250, 256, Offset, part);
        Assert.Equal(all[250..950], part);
    }

    [Fact]
    public void Spans_that_are_too_short_are_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => FourBit.Decode<SingleFormat>(new byte[1], 1, Nf4, [1f], 64, new float[2]));
        Assert.Throws<ArgumentOutOfRangeException>(() => FourBit.Decode<SingleFormat>(new byte[33], 63, Nf4, [1f], 64, new float[2]));
        Assert.Throws<ArgumentOutOfRangeException>(() => FourBit.Decode<SingleFormat>(new byte[1], 0, Nf4, [1f], 24, new float[2]));
    }

    /// <summary>Mostly scales as in a model; some for which a half is denormal, overflows, or is at the tie above the largest.</summary>
    private static float Scale(Random random) => random.Next(6) switch
    {
        0 => random.NextSingle() * 1e-6f,
        1 => random.NextSingle() * 2e5f,
        2 => random.Next(4) switch { 0 => float.NaN, 1 => float.PositiveInfinity, 2 => 65520, _ => 1e-40f },
        _ => random.NextSingle(),
    };

    private static float Rounded(float value, int format) => float.IsNaN(value) ? Single(0x7FC0_0000) : format switch
    {
        1 => Single((uint)BFloat16(value) << 16),
        2 => (float)BitConverter.UInt16BitsToHalf(Half(value)),
        _ => value,
    };
}
