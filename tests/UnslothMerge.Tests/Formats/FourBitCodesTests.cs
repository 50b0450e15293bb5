using CsCheck;
using UnslothMerge.Formats.BitsAndBytes;

namespace UnslothMerge.Tests.Formats;

public sealed class FourBitCodesTests
{
    public static TheoryData<string> Names => ["nf4", "fp4"];

    [Theory]
    [MemberData(nameof(Names))]
    public void WhatWasDecodedIsEncodedAsItWas(string name) =>
        Gen.Select(Gen.Byte[0, 15].Array[1, 300], Gen.Float[1e-30f, 1e30f]).Sample((codes, absMax) =>
        {
            var book = FourBitCodes.Of(name);
            var values = Array.ConvertAll(codes, c => book.Values.Span[c] * absMax);
            var encoded = new byte[codes.Length];
            book.Encode(values, 1 / absMax, encoded);

            // Minus zero is a code of its own that nothing is encoded as.
            Assert.Equal(codes.Select(c => book.Values.Span[c] == 0 ? book.Values.Span.IndexOf(0f) : c), encoded.Select(c => (int)c));
        });

    [Theory]
    [MemberData(nameof(Names))]
    public void AValueGetsTheNearestCode(string name) =>
        Gen.Float[-1, 1].Array[1, 300].Sample(values =>
        {
            var book = FourBitCodes.Of(name);
            var encoded = new byte[values.Length];
            book.Encode(values, 1, encoded);
            for (var i = 0; i < values.Length; i++)
            {
                var nearest = book.Values.ToArray().Min(v => Math.Abs((double)v - values[i]));
                Assert.Equal(nearest, Math.Abs((double)book.Values.Span[encoded[i]] - values[i]), 1e-6);
            }
        });

    [Fact]
    public void TheDynamicMapHas256AscendingValuesAroundZero()
    {
        Assert.Equal(256, DynamicMap.Values.Count);
        Assert.Equal(0f, DynamicMap.Values[127]);
        Assert.Equal(1f, DynamicMap.Values[255]);
        Assert.Equal(DynamicMap.Values.Order(), DynamicMap.Values);
    }
}
