namespace UnslothMerge.Tests.Simd;

/// <summary>What the kernels must give, one element at a time and written in another way than they are.</summary>
internal static class StoredFloats
{
    public static uint Bits(float value) => BitConverter.SingleToUInt32Bits(value);

    public static float Single(uint bits) => BitConverter.UInt32BitsToSingle(bits);

    /// <summary>The nearer of the two neighbours, by distance in double; the even one at a tie.</summary>
    public static ushort BFloat16(double value)
    {
        if (double.IsNaN(value))
        {
            return 0x7FC0;
        }

        double distance = Math.Abs(value);
        uint magnitude = Bits((float)distance);
        uint below = (Single(magnitude) > distance ? magnitude - 1 : magnitude) >> 16;

        // For the purpose of rounding, the neighbour above the largest finite value is 2^128.
        double above = below + 1 == 0x7F80 ? Math.ScaleB(1, 128) : Single((below + 1) << 16);
        double toBelow = distance - Single(below << 16), toAbove = above - distance;
        bool up = !double.IsInfinity(value) && (toAbove < toBelow || (toAbove == toBelow && below % 2 == 1));
        return (ushort)((double.IsNegative(value) ? 0x8000u : 0) | (up ? below + 1 : below));
    }

    public static ushort Half(float value) =>
        float.IsNaN(value) ? (ushort)0x7E00 : BitConverter.HalfToUInt16Bits((System.Half)value);

    public static byte[] Bytes<T>(params T[] values)
        where T : unmanaged => System.Runtime.InteropServices.MemoryMarshal.AsBytes(values.AsSpan()).ToArray();
}

/// <summary>The values of SimdWidth, which is internal and so no parameter of a test. Every width runs on every machine, emulated by .NET
/// where need be.</summary>
internal sealed class Widths : TheoryData<int>
{
    public Widths()
        : base(128, 256, 512)
    {
    }
}
