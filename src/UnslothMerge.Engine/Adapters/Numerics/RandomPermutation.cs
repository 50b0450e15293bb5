namespace UnslothMerge.Adapters.Numerics;

/// <summary>The beginning of <c>torch.randperm</c> on the CPU. Source: ATen, <c>randperm_cpu</c>.</summary>
internal static class RandomPermutation
{
    // From this length on, torch draws 64 bits a time and shuffles the other way.
    private const long LargeLength = uint.MaxValue / 20;

    /// <summary>The first entries of a random permutation of 0 … length − 1.</summary>
    public static long[] First(long seed, long length, int count)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(count, length);
        var generator = new MersenneTwister(seed);
        return length < LargeLength ? Swaps(generator, (int)length, count) : InsideOut(generator, length, count);
    }

    // Fisher and Yates: step i swaps place i with one at or after it. Later steps leave the first entries alone, and only the places that
    // were swapped need to be kept.
    internal static long[] Swaps(MersenneTwister generator, int length, int count)
    {
        var moved = new Dictionary<int, int>();
        var first = new long[count];
        for (var i = 0; i < count; i++)
        {
            var other = i < length - 1 ? i + (int)(generator.Next32() % (uint)(length - i)) : i;
            first[i] = moved.GetValueOrDefault(other, other);
            moved[other] = moved.GetValueOrDefault(i, i);
        }

        return first;
    }

    // Inside out: step i puts i at a place up to i, and what was there at place i. Every step must be drawn, but only the first places be
    // kept.
    internal static long[] InsideOut(MersenneTwister generator, long length, int count)
    {
        var first = new long[count];
        for (var i = 0L; i < length; i++)
        {
            var place = (long)(generator.Next64() % (ulong)(i + 1));
            if (i < count)
            {
                first[i] = first[place];
            }

            if (place < count)
            {
                first[place] = i;
            }
        }

        return first;
    }
}
