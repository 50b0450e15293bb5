using static UnslothMerge.Tests.Simd.StoredFloats;

namespace UnslothMerge.Tests.Simd;

/// <summary>Each format against one that takes a bit after the other.</summary>
public sealed class TransposedCodesTests
{
    [Theory, ClassData(typeof(Widths))]
    public void Gptq_decodes_any_part(int width) =>
        Gen.Select(Gen.Int[0, 3].Select(i => new[] { 2, 3, 4, 8 }[i]), Gen.Int[1, 3].Select(s => 16 * s), Gen.Int[1, 70], Gen.Int).Sample(
            (bits, stride, columns, seed) =>
            {
                var random = new Random(seed);
                var (groups, zeros, scales) = Groups(random, columns, stride);
                int lines = ((columns * bits) + 31) / 32;
                byte[] words = new byte[lines * stride * 4];
                random.NextBytes(words);
                Check(random, stride, columns,
                    (part, values) =>
                    TransposedCodes.DecodeWords(words, bits, true, groups, zeros, scales, stride, part, values, (SimdWidth)width),
                    (row, column) =>
                {
                    int code = 0;
                    for (int b = 0; b < bits; b++)
                    {
                        int bit = (column * bits) + b;
                        code |= (int)((BinaryPrimitives.ReadUInt32LittleEndian(words.AsSpan(((bit / 32 * stride) + row) * 4)) >> (
                            bit % 32)) & 1) << b;
                    }

                    int at = (groups[column] * stride) + row;
                    return (code - zeros[at]) * scales[at];
                });
            },
            iter: 400);

    [Theory, ClassData(typeof(Widths))]
    public void Awq_decodes_any_part(int width) =>
        Gen.Select(Gen.Int[1, 3].Select(s => 16 * s), Gen.Int[1, 70], Gen.Int).Sample(
            (stride, columns, seed) =>
            {
                var random = new Random(seed);
                var (groups, zeros, scales) = Groups(random, columns, stride);
                byte[] words = new byte[columns * stride / 2];
                random.NextBytes(words);
                Check(random, stride, columns,
                    (part, values) =>
                    TransposedCodes.DecodeWords(words, 4, false, groups, zeros, scales, stride, part, values, (SimdWidth)width),
                    (row, column) =>
                {
                    uint word = BinaryPrimitives.ReadUInt32LittleEndian(words.AsSpan(((column * stride) + (row & ~7)) / 2));
                    int nibble = row % 2 == 0 ? row % 8 / 2 : 4 + (row % 8 / 2);
                    int at = (groups[column] * stride) + row;
                    return (((word >> (4 * nibble)) & 15) - zeros[at]) * scales[at];
                });
            },
            iter: 400);

    [Theory, ClassData(typeof(Widths))]
    public void MxFp4_decodes_any_part(int width) =>
        Gen.Select(Gen.Int[1, 3], Gen.Int[1, 70], Gen.Int).Sample(
            (groups, columns, seed) =>
            {
                var random = new Random(seed);
                byte[] blocks = new byte[columns * groups * 16];
                byte[] scales = new byte[columns * groups];
                random.NextBytes(blocks);
                random.NextBytes(scales);
                Check(random, groups * 32, columns,
                    (part, values) => TransposedCodes.DecodeMxFp4(blocks, scales, groups, part, values, (SimdWidth)width), (row, column) =>
                {
                    int block = (column * groups) + (row / 32);
                    int code = (blocks[(block * 16) + (row % 32 / 2)] >> (row % 2 * 4)) & 15;
                    double value = new[] { 0, 0.5, 1, 1.5, 2, 3, 4, 6 }[code & 7] * (code < 8 ? 1 : -1);
                    return scales[block] == 255 ? float.NaN : (float)Math.ScaleB(value, scales[block] - 127);
                });
            },
            iter: 400);

    [Fact]
    public void What_does_not_fit_is_refused()
    {
        TransposedCodes.Part part = new(0, 16, 0, 8);
        Assert.Throws<ArgumentOutOfRangeException>(() =>
            TransposedCodes.DecodeWords(new byte[60], 4, true, new int[8], new float[16], new float[16], 16, part, new float[128],
                SimdWidth.Vector128));
        Assert.Throws<ArgumentOutOfRangeException>(() =>
            TransposedCodes.DecodeWords(new byte[64], 4, true, [0, 0, 0, 1, 0, 0, 0, 0], new float[16], new float[16], 16, part,
                new float[128],
                SimdWidth.Vector128));
        Assert.Throws<ArgumentOutOfRangeException>(() =>
            TransposedCodes.DecodeWords(new byte[64], 4, false, [0, 0, 0, -1, 0, 0, 0, 0], new float[16], new float[16], 16, part,
                new float[128],
                SimdWidth.Vector128));
        Assert.Throws<ArgumentOutOfRangeException>(() =>
            TransposedCodes.DecodeMxFp4(new byte[128], new byte[8], 1, part with { Row = 17 }, new float[128], SimdWidth.Vector128));
    }

    private static (int[] Groups, float[] Zeros, float[] Scales) Groups(Random random, int columns, int stride)
    {
        int count = random.Next(1, 5);
        int[] groups = [.. Enumerable.Range(0, columns).Select(_ => random.Next(count))];
        float[] zeros = [.. Enumerable.Range(0, count * stride).Select(_ => (float)random.Next(256))];
        return (groups, zeros, [.. zeros.Select(_ => random.NextSingle() - 0.5f)]);
    }

    private static void Check(Random random, int rows, int columns, DecodePart decode, Func<int, int, float> expected)
    {
        int row = random.Next(rows);
        int column = random.Next(columns);
        TransposedCodes.Part part = new(row, random.Next(1, rows - row + 1), column, random.Next(1, columns - column + 1));
        float[] values = new float[(part.Rows * part.Columns) + 1];
        values[^1] = 42;
        decode(part, values);
        Assert.Equal(42, values[^1]);
        for (int r = 0; r < part.Rows; r++)
        {
            for (int c = 0; c < part.Columns; c++)
            {
                float value = expected(row + r, column + c);
                float actual = values[(r * part.Columns) + c];
                Assert.True(Bits(value) == Bits(actual) || (float.IsNaN(value) && float.IsNaN(actual)),
                    $"{part}: row {r}, column {c}: {actual} instead of {value}");
            }
        }
    }

    private delegate void DecodePart(TransposedCodes.Part part, Span<float> values);
}
