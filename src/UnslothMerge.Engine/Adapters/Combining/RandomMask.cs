namespace UnslothMerge.Adapters.Combining;

/// <summary>Decides for each element whether it stays, with a given probability. The decision is a hash of seed, tensor, adapter and the
/// element's index, so that it does not depend on the order in which elements are visited, nor by whom. Source of the hash: SplitMix64
/// (Steele, Lea, Flood 2014).</summary>
internal readonly struct RandomMask
{
    private const ulong Golden = 0x9e3779b97f4a7c15;

    // The upper 53 bits of a hash are a number in [0, 1), as exact as a double.
    private const int Bits = 53;

    private readonly ulong _key;
    private readonly ulong _limit;

    /// <summary>The density is the probability with which an element stays; the adapter is given by its place in the merge.</summary>
    public RandomMask(int seed, string tensor, int adapter, double density)
    {
        var key = Mix((uint)seed);
        foreach (var character in tensor)
        {
            key = Mix(key ^ character);
        }

        _key = Mix(key ^ (uint)adapter);
        _limit = (ulong)(density * (1L << Bits));
    }

    /// <summary>Zeroes the elements of a run that do not stay. The index is that of its first element.</summary>
    public void Apply(long index, Span<float> values)
    {
        // As integers, which need no branch: half of the time it would be predicted wrongly.
        var stored = MemoryMarshal.Cast<float, uint>(values);
        for (var i = 0; i < stored.Length; i++)
        {
            stored[i] &= Mix(_key + ((ulong)(index + i) * Golden)) >> (64 - Bits) < _limit ? uint.MaxValue : 0;
        }
    }

    private static ulong Mix(ulong value)
    {
        value += Golden;
        value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
        value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
        return value ^ (value >> 31);
    }
}
