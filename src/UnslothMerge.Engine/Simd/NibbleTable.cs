namespace UnslothMerge.Simd;

/// <summary>Lookups in a table of sixteen where no permutation does it.</summary>
internal static unsafe class NibbleTable
{
    /// <param name="packed">Eight bytes in memory order, sixteen codes, high nibble first.</param>
    /// <param name="table16">Sixteen values.</param>
    /// <param name="values">Room for sixteen values.</param>
    public static void LookUp(ulong packed, float* table16, float* values)
    {
        for (int i = 0; i < 16; i += 2)
        {
            values[i] = table16[(packed >> 4) & 15];
            values[i + 1] = table16[packed & 15];
            packed >>= 8;
        }
    }

    /// <param name="indices">Sixteen indices, in their low four bits.</param>
    /// <param name="table16">Sixteen values.</param>
    /// <param name="values">Room for sixteen values; it may be where the indices are.</param>
    public static void LookUp(uint* indices, float* table16, float* values)
    {
        for (int i = 0; i < 16; i++)
        {
            values[i] = table16[indices[i] & 15];
        }
    }
}
