namespace UnslothMerge.Simd;

/// <summary>Conversions between fp32 and the 16-bit formats, on integer lanes, exact for every value: to nearest, ties to even. The
/// hardware's own are no help: vcvtneps2bf16 flushes denormals to zero, and .NET 10 does not expose F16C.</summary>
/// <remarks>The callers handle NaNs; checks here would cost a quarter of the speed.</remarks>
internal static class Rounding
{
    /// <summary>The magnitude bits of infinity; the greater ones are NaNs.</summary>
    public const uint Infinity = 0x7F80_0000;

    private const uint Sign = 0x8000_0000;

    /// <summary>2^-14, the least normal half, as fp32 bits.</summary>
    private const uint LeastNormalHalf = 0x3880_0000;

    /// <summary>The difference of the exponents' biases (127 - 15), in the place of the fp32 exponent.</summary>
    private const uint HalfBias = 112u << 23;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Magnitude<T>(T value)
        where T : unmanaged, ILanes<T> => T.AndBits(value, T.BroadcastBits(~Sign));

    /// <summary>Replaces rounded NaNs by the positive quiet NaN.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T WithQuietNaN<T>(T value, T rounded)
        where T : unmanaged, ILanes<T>
    {
        T isNaN = T.GreaterThanBits(Magnitude(value), T.BroadcastBits(Infinity));
        return T.Select(isNaN, T.Broadcast(FloatFormats.QuietNaN), rounded);
    }

    /// <summary>The bits of the nearest bfloat16, as 16-bit integers.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T ToBFloat16<T>(T value)
        where T : unmanaged, ILanes<T> =>
        T.ShiftRightBits(RoundBits(value, 16), 16);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T FromBFloat16<T>(T bits)
        where T : unmanaged, ILanes<T> => T.ShiftLeftBits(bits, 16);

    /// <summary>The nearest bfloat16, as fp32.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T RoundToBFloat16<T>(T value)
        where T : unmanaged, ILanes<T> =>
        T.AndBits(RoundBits(value, 16), T.BroadcastBits(0xFFFF_0000));

    /// <summary>The bits of the nearest half, as 16-bit integers.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T ToHalf<T>(T value)
        where T : unmanaged, ILanes<T>
    {
        T magnitude = Magnitude(value);
        T sign = T.ShiftRightBits(T.AndBits(value, T.BroadcastBits(Sign)), 16);

        // 65536 is the first power of two beyond the range; with the other bias it is infinity.
        T clamped = T.MinBits(magnitude, T.BroadcastBits(BitConverter.SingleToUInt32Bits(65536f)));
        T normal = T.ShiftRightBits(T.SubtractBits(RoundBits(clamped, 13), T.BroadcastBits(HalfBias)), 13);

        // Between 1/2 and 1 the unit in the last place is 2^-24, that of a denormal half: the addition rounds.
        T denormal = T.SubtractBits(T.Add(magnitude, T.Broadcast(0.5f)), T.Broadcast(0.5f));

        T isNormal = T.GreaterThanBits(magnitude, T.BroadcastBits(LeastNormalHalf - 1));
        return T.OrBits(T.Select(isNormal, normal, denormal), sign);
    }

    /// <summary>The nearest half, as fp32.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T RoundToHalf<T>(T value)
        where T : unmanaged, ILanes<T>
    {
        T magnitude = Magnitude(value);
        T sign = T.AndBits(value, T.BroadcastBits(Sign));
        T normal = T.AndBits(RoundBits(magnitude, 13), T.BroadcastBits(~0x1FFFu));
        T denormal = T.Subtract(T.Add(magnitude, T.Broadcast(0.5f)), T.Broadcast(0.5f));
        T isNormal = T.GreaterThanBits(magnitude, T.BroadcastBits(LeastNormalHalf - 1));
        T isInfinite = T.GreaterThanBits(magnitude, T.BroadcastBits(HalfFormat.FirstNonFinite - 1));
        T finite = T.Select(isNormal, normal, denormal);
        return T.OrBits(T.Select(isInfinite, T.BroadcastBits(Infinity), finite), sign);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T FromHalf<T>(T bits)
        where T : unmanaged, ILanes<T>
    {
        T sign = T.ShiftLeftBits(T.AndBits(bits, T.BroadcastBits(0x8000)), 16);
        T magnitude = T.AndBits(bits, T.BroadcastBits(0x7FFF));
        T moved = T.ShiftLeftBits(magnitude, 13);

        // Infinity and NaN need the bias twice: their exponent goes from 31 to 255.
        T isSpecial = T.GreaterThanBits(magnitude, T.BroadcastBits(0x7BFF));
        T normal = T.AddBits(moved, T.AddBits(T.BroadcastBits(HalfBias), T.AndBits(isSpecial, T.BroadcastBits(HalfBias))));

        // A denormal is read as 2^-14 · (1 + fraction), and the 2^-14 taken off again; exact.
        T denormal = T.Subtract(T.AddBits(moved, T.BroadcastBits(LeastNormalHalf)), T.BroadcastBits(LeastNormalHalf));

        T isNormal = T.GreaterThanBits(magnitude, T.BroadcastBits(0x03FF));
        return T.OrBits(T.Select(isNormal, normal, denormal), sign);
    }

    /// <summary>Rounds off the lowest bits: they still stand, but a carry out of them has been added.</summary>
    /// <remarks>
    /// Bits below the tie do not carry, those above it do, and at the tie the lowest kept bit decides.
    /// The carry may go on into the exponent, and from the largest one to infinity, as it must.
    /// </remarks>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T RoundBits<T>(T value, int count)
        where T : unmanaged, ILanes<T>
    {
        T odd = T.AndBits(T.ShiftRightBits(value, count), T.BroadcastBits(1));
        return T.AddBits(T.AddBits(value, T.BroadcastBits((1u << (count - 1)) - 1)), odd);
    }
}
