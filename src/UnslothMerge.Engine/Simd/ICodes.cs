using System.Runtime.Intrinsics.X86;

namespace UnslothMerge.Simd;

/// <summary>Codes of up to eight bits, packed without gaps, least significant bit first.</summary>
internal unsafe interface ICodes
{
    /// <summary>Bits per code.</summary>
    int Bits { get; }

    /// <summary>The values of sixteen codes; sixteen bytes are readable.</summary>
    T Load<T>(byte* source)
        where T : unmanaged, ILanes<T>;

    /// <summary>Rounds the scaled values, if the format does.</summary>
    static virtual T Round<T>(T value)
        where T : unmanaged, ILanes<T> => value;
}

/// <summary>FP8 with four bits of exponent and three of mantissa: no infinity, and 7F is NaN. Source: OCP 8-bit floating point
/// 1.0.</summary>
internal readonly unsafe struct E4M3Codes : ICodes
{
    /// <summary>2^-6, the least normal value, as fp32 bits.</summary>
    private const uint LeastNormal = 0x3C80_0000;

    /// <summary>The difference of the exponents' biases (127 - 7), in the place of the fp32 exponent.</summary>
    private const uint Bias = 120u << 23;

    public int Bits => 8;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Load<T>(byte* source)
        where T : unmanaged, ILanes<T>
    {
        T code = T.WidenBytes(Vector128.Load(source));
        T sign = T.ShiftLeftBits(T.AndBits(code, T.BroadcastBits(0x80)), 24);
        T magnitude = T.AndBits(code, T.BroadcastBits(0x7F));
        T shifted = T.ShiftLeftBits(magnitude, 20);

        // A denormal is read as 2^-6 · (1 + fraction), and the 2^-6 taken off again; exact.
        T denormal = T.Subtract(T.AddBits(shifted, T.BroadcastBits(LeastNormal)), T.BroadcastBits(LeastNormal));
        T isNormal = T.GreaterThanBits(magnitude, T.BroadcastBits(7));
        T number = T.Select(isNormal, T.AddBits(shifted, T.BroadcastBits(Bias)), denormal);
        T isNaN = T.GreaterThanBits(magnitude, T.BroadcastBits(0x7E));
        return T.OrBits(T.Select(isNaN, T.Broadcast(FloatFormats.QuietNaN), number), sign);
    }
}

/// <summary>FP8 with five bits of exponent and two of mantissa: the upper half of an IEEE half.</summary>
internal readonly unsafe struct E5M2Codes : ICodes
{
    public int Bits => 8;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Load<T>(byte* source)
        where T : unmanaged, ILanes<T> => Rounding.FromHalf(T.ShiftLeftBits(T.WidenBytes(Vector128.Load(source)), 8));
}

/// <summary>Signed bytes.</summary>
internal readonly unsafe struct Int8Codes : ICodes
{
    public int Bits => 8;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Load<T>(byte* source)
        where T : unmanaged, ILanes<T> =>
        Integers.ToSingle(T.WidenBytes(Vector128.Load(source) ^ Vector128.Create((byte)0x80)), T.Broadcast(Integers.Zero + 128));
}

/// <summary>FP4 with two bits of exponent and one of mantissa, low nibble first. Source: OCP microscaling formats 1.0.</summary>
internal readonly unsafe struct E2M1Codes : ICodes
{
    public int Bits => 4;

    /// <summary>0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives.</summary>
    public static ReadOnlySpan<float> Values => [0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0f, -0.5f, -1, -1.5f, -2, -3, -4, -6];

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Load<T>(byte* source)
        where T : unmanaged, ILanes<T> => T.LookUpNibbles(Nibbles.Swap(Unsafe.ReadUnaligned<ulong>(source)), Nibbles.Table(Values));
}

/// <summary>Indices of four bits into a table, high nibble first. Products with a scale are rounded to a dtype.</summary>
internal readonly unsafe struct TableCodes<TFormat>(float* table16) : ICodes
    where TFormat : struct, IOutputFormat
{
    public int Bits => 4;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Load<T>(byte* source)
        where T : unmanaged, ILanes<T> => T.LookUpNibbles(Unsafe.ReadUnaligned<ulong>(source), table16);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Round<T>(T value)
        where T : unmanaged, ILanes<T> => TFormat.Round(value);
}

/// <summary>Integers of one to eight bits, stored with 2^(bits − 1) added, or without a sign.</summary>
internal readonly unsafe struct IntegerCodes(int bits, bool signed = true) : ICodes
{
    private readonly ulong _fields = ((1UL << bits) - 1) * 0x0101_0101_0101_0101;
    private readonly float _offset = Integers.Zero + (signed ? 1 << (bits - 1) : 0);

    public int Bits => bits;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Load<T>(byte* source)
        where T : unmanaged, ILanes<T>
    {
        // Eight codes begin and end with a byte.
        ulong low = Spread(Unsafe.ReadUnaligned<ulong>(source));
        ulong high = Spread(Unsafe.ReadUnaligned<ulong>(source + bits));
        return Integers.ToSingle(T.WidenBytes(Vector128.Create(low, high).AsByte()), T.Broadcast(_offset));
    }

    /// <summary>Each of eight codes in a byte of its own.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private ulong Spread(ulong codes)
    {
        if (Bmi2.X64.IsSupported)
        {
            return Bmi2.X64.ParallelBitDeposit(codes, _fields);
        }

        ulong spread = 0;
        for (int i = 0; i < 8; i++)
        {
            spread |= ((codes >> (i * bits)) & (byte)_fields) << (8 * i);
        }

        return spread;
    }
}

/// <summary>E8M0, a power of two: 2^(b − 127); FF is NaN. Source: OCP microscaling formats 1.0.</summary>
internal static class PowersOfTwo
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Of(byte exponent) =>
        exponent is 0xFF ? float.NaN : BitConverter.UInt32BitsToSingle(exponent is 0 ? 0x0040_0000 : (uint)exponent << 23);
}

/// <summary>From small unsigned integers to fp32.</summary>
internal static class Integers
{
    /// <summary>2^23: at this magnitude the last bit of a float is worth one.</summary>
    public const float Zero = 8388608;

    /// <summary>The integers, below 2^23, minus an offset (<see cref="Zero"/> plus the subtrahend), exactly.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T ToSingle<T>(T integers, T offset)
        where T : unmanaged, ILanes<T> => T.Subtract(T.OrBits(integers, T.Broadcast(Zero)), offset);
}

/// <summary>Sixteen 4-bit codes in eight bytes.</summary>
internal static unsafe class Nibbles
{
    private const ulong LowNibbles = 0x0F0F_0F0F_0F0F_0F0F;

    /// <summary>The address of constants in the assembly, which never moves.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float* Table(ReadOnlySpan<float> constants) => (float*)Unsafe.AsPointer(ref MemoryMarshal.GetReference(constants));

    /// <summary>From low nibble first to high nibble first.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Swap(ulong packed) => ((packed & LowNibbles) << 4) | ((packed >> 4) & LowNibbles);

    /// <summary>AWQ's words, eight outputs as 0 2 4 6 1 3 5 7 from the low end, to outputs in order, high nibble first.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong FromAwq(ulong words) => (Spread(words) << 4) | Spread(words >> 16);

    /// <summary>Packs sixteen codes, a lane each, high nibble first.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Pack<T>(T codes)
        where T : unmanaged, ILanes<T>
    {
        Vector128<ushort> pairs = T.NarrowToBytes(codes).AsUInt16();
        Vector128<ushort> packed = ((pairs << 4) | (pairs >>> 8)) & Vector128.Create((ushort)0xFF);
        return Vector128.Narrow(packed, packed).AsUInt64()[0];
    }

    /// <summary>Packs sixteen codes, a lane each, low nibble first.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong PackLowFirst<T>(T codes)
        where T : unmanaged, ILanes<T>
    {
        Vector128<ushort> pairs = T.NarrowToBytes(codes).AsUInt16();
        Vector128<ushort> packed = (pairs | (pairs >>> 4)) & Vector128.Create((ushort)0xFF);
        return Vector128.Narrow(packed, packed).AsUInt64()[0];
    }

    /// <summary>The nibbles of each word's lower half, each in a byte of its own.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong Spread(ulong words)
    {
        words &= 0x0000_FFFF_0000_FFFF;
        words = (words | (words << 8)) & 0x00FF_00FF_00FF_00FF;
        return (words | (words << 4)) & LowNibbles;
    }
}
