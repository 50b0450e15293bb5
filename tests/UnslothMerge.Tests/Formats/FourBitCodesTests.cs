namespace UnslothMerge.Tests.Formats;

public sealed class FourBitCodesTests
{
    public static TheoryData<string> Names => ["nf4", "fp4"];

    [Theory, MemberData(nameof(Names))]
    public void WhatWasDecodedIsEncodedAsItWas(string name) =>
        Gen.Select(Gen.Byte[0, 15].Array[64, 640], Gen.Int[5, 7].Select(p => 1 << p), Gen.Float[1e-30f, 1e30f])
            .Sample((codes, blockSize, scale) =>
        {
            // Every block holds its largest value, from which its absmax comes again.
            var book = FourBitCodes.Of(name);
            codes = codes[..(codes.Length & -blockSize)];
            var largest = (byte)book.Values.Span.IndexOf(1f);
            for (var start = 0; start < codes.Length; start += blockSize)
            {
                codes[start] = largest;
            }

            float[] values = [.. codes.Select(c => book.Values.Span[c] * scale)];
            var stored = new byte[2 * codes.Length];
            var statistics = default(TileStatistics);
            Combine.To<BFloat16Format>(values, default, stored, ref statistics);
            var packed = new byte[codes.Length / 2];
            var found = new float[codes.Length / blockSize];
            book.Encode(TensorType.BF16, stored, blockSize, packed, found, ref statistics);

            // Minus zero is a code of its own that nothing is encoded as.
            Assert.Equal(
                codes.Select(c => book.Values.Span[c] == 0 ? book.Values.Span.IndexOf(0f) : c),
                packed.SelectMany(p => new[] { p >> 4, p & 15 }));
        });

    [Fact]
    public void TheDynamicMapHas256AscendingValuesAroundZero()
    {
        Assert.Equal(256, DynamicMap.Values.Length);
        Assert.Equal(0f, DynamicMap.Values[127]);
        Assert.Equal(1f, DynamicMap.Values[255]);
        Assert.Equal(DynamicMap.Values.ToArray().Order(), DynamicMap.Values.ToArray());
    }
}
