namespace UnslothMerge.Tests.Combining;

/// <summary>The random choice is fair, repeatable, and another one for every seed, tensor and adapter.</summary>
public sealed class RandomMaskTests
{
    private const int Count = 100_000;

    [Theory]
    [InlineData(0.001)]
    [InlineData(0.2)]
    [InlineData(0.9)]
    public void KeepsTheShareThatItShould(double density)
    {
        // Five standard deviations.
        var slack = 5 * Math.Sqrt(density * (1 - density) * Count);
        Assert.InRange(Mask(1, "w", 0, density).Count(k => k), (density * Count) - slack, (density * Count) + slack);
    }

    [Fact]
    public void ChoicesAreIndependent()
    {
        var first = Mask(1, "w", 0, 0.5);
        Assert.All(
            [Mask(2, "w", 0, 0.5), Mask(1, "v", 0, 0.5), Mask(1, "w", 1, 0.5), Mask(-1, "w", 0, 0.5), [.. first.Skip(1), false]],
            other => Assert.InRange(first.Zip(other).Count(p => p.First == p.Second), (Count / 2) - 800, (Count / 2) + 800));
    }

    [Fact]
    public void StaysTheSameFromVersionToVersion() =>
        Assert.Equal("11000011001111111111100111101010",
            string.Concat(CombinationReference.Mask(42, "model.layers.0.self_attn.q_proj.weight", 1, 0.5, 32).Select(k => k ? '1' : '0')));

    [Fact]
    public void KeepsEverythingAtADensityOfOne() => Assert.DoesNotContain(false, Mask(3, "w", 0, 1));

    private static bool[] Mask(int seed, string tensor, int adapter, double density) =>
        CombinationReference.Mask(seed, tensor, adapter, density, Count);
}
