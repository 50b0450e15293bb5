namespace UnslothMerge.Simd;

/// <summary>Table lookups for processors without a permutation that does them.</summary>
internal static unsafe class NibbleTable
{
    /// <summary>The entries of <paramref name="table16"/> for the sixteen 4-bit codes in eight bytes, high nibble first.</summary>
    public static T LookUp<T>(ulong packed, float* table16)
        where T : unmanaged, ILanes<T>
    {
        float* values = stackalloc float[ILanes<T>.Count];
        for (int i = 0; i < ILanes<T>.Count; i += 2)
        {
            values[i] = table16[(packed >> 4) & 15];
            values[i + 1] = table16[packed & 15];
            packed >>= 8;
        }

        return T.Load(values);
    }

    /// <summary>The entries of <paramref name="table"/> whose indices are the bits of each lane that <paramref name="mask"/> has.</summary>
    public static T LookUp<T>(T indices, float* table, uint mask)
        where T : unmanaged, ILanes<T>
    {
        float* values = stackalloc float[ILanes<T>.Count];
        T.Store(indices, values);
        for (int i = 0; i < ILanes<T>.Count; i++)
        {
            values[i] = table[((uint*)values)[i] & mask];
        }

        return T.Load(values);
    }
}
