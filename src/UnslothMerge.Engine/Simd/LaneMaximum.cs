namespace UnslothMerge.Simd;

/// <summary>The largest of the magnitudes that lanes have gathered.</summary>
internal static unsafe class LaneMaximum
{
    /// <summary>The largest of 16 floats that are not negative, given by their bits, which sort as they do. No branches: half of them would
    /// be mispredicted.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Of(uint* lanes)
    {
        Vector128<uint> four = Vector128.Max(
            Vector128.Max(Vector128.Load(lanes), Vector128.Load(lanes + 4)),
            Vector128.Max(Vector128.Load(lanes + 8), Vector128.Load(lanes + 12)));
        four = Vector128.Max(four, Vector128.Shuffle(four, Vector128.Create(2u, 3, 0, 1)));
        return Vector128.Max(four, Vector128.Shuffle(four, Vector128.Create(1u, 0, 3, 2))).AsSingle().ToScalar();
    }
}
