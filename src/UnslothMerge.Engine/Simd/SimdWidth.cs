namespace UnslothMerge.Simd;

/// <summary>The vector width of a kernel, in bits.</summary>
internal enum SimdWidth
{
    Vector128 = 128,
    Vector256 = 256,
    Vector512 = 512,
}

internal static class SimdWidths
{
    /// <summary>The widest one that the processor has; a constant for the JIT. Every width works on every machine (.NET emulates the
    /// missing ones) and gives the same bits.</summary>
    public static SimdWidth Widest =>
        Vector512.IsHardwareAccelerated ? SimdWidth.Vector512 : Vector256.IsHardwareAccelerated ? SimdWidth.Vector256 : SimdWidth.Vector128;
}
