namespace UnslothMerge.Adapters.Numerics;

/// <summary>The beginning of <c>torch.randperm</c> on the CPU. Source: ATen, <c>randperm_cpu</c>.</summary>
public static class RandomPermutation
{
    /// <summary>Longer permutations are drawn by another algorithm.</summary>
    public const long MaxLength = uint.MaxValue / 20;

    /// <summary>The first entries of a random permutation of 0 … length − 1.</summary>
    /// <param name="seed">The generator's seed.</param>
    /// <param name="length">The length of the whole permutation, less than <see cref="MaxLength"/>.</param>
    /// <param name="count">How many entries are wanted.</param>
    public static int[] First(long seed, int length, int count)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(length, MaxLength);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(count, length);
        var generator = new MersenneTwister(seed);

        // Step i of the shuffle swaps place i with one at or after it: later steps leave the first entries alone, and only the places that
        // were swapped need to be kept.
        var moved = new Dictionary<int, int>();
        var first = new int[count];
        for (var i = 0; i < count; i++)
        {
            var other = i < length - 1 ? i + (int)(generator.Next32() % (uint)(length - i)) : i;
            first[i] = moved.GetValueOrDefault(other, other);
            moved[other] = moved.GetValueOrDefault(i, i);
        }

        return first;
    }
}
