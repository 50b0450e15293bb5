namespace UnslothMerge.Tests.Simd;

public sealed class ScalingTests
{
    [Fact]
    public void Products_are_rounded_once() => Gen.Select(Gen.Float.Array[0, 40], Gen.Double).Sample((values, factor) =>
    {
        var scaled = values.ToArray();
        Scaling.Multiply(scaled, factor);
        Assert.Equal(values.Select(v => (float)(v * factor)), scaled);
    });
}
