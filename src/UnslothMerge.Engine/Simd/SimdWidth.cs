using System.Runtime.Intrinsics;

namespace UnslothMerge.Simd;

/// <summary>The vector width of a kernel, in bits.</summary>
internal enum SimdWidth
{
    Scalar = 32,
    Vector128 = 128,
    Vector256 = 256,
    Vector512 = 512,
}

/// <summary>Chooses among the widths.</summary>
internal static class SimdWidths
{
    /// <summary>
    /// The widest one that this machine runs well; a constant for the JIT. Every width works on every machine
    /// (.NET emulates the missing ones) and gives the same bits.
    /// </summary>
    public static SimdWidth Widest =>
        Vector512.IsHardwareAccelerated ? SimdWidth.Vector512
        : Vector256.IsHardwareAccelerated ? SimdWidth.Vector256
        : Vector128.IsHardwareAccelerated ? SimdWidth.Vector128
        : SimdWidth.Scalar;
}
