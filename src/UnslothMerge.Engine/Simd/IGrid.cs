namespace UnslothMerge.Simd;

/// <summary>The values that the codes of a quantized weight stand for, before they are multiplied by a scale.</summary>
internal interface IGrid
{
    /// <summary>Rounds sixteen numbers, divided by their scale, to the grid, ties to even; numbers beyond it become its last value. Gives
    /// codes of at most 8 bits, and the distance of each rounded number from that of a weight of zero, in fp32.</summary>
    T Round<T>(T value, out T magnitude)
        where T : unmanaged, ILanes<T>;
}

/// <summary>A float of at most 8 bits without infinity: sign, exponent, mantissa. Source: OCP 8-bit floating point 1.0 and microscaling
/// formats 1.0.</summary>
internal readonly struct FloatGrid(int mantissaBits, int bias, int signBit, float largest) : IGrid
{
    /// <summary>The bits that fp32's mantissa is longer by.</summary>
    private readonly int _lost = 23 - mantissaBits;

    private readonly uint _bias = (127u - (uint)bias) << 23;

    private readonly float _smallestNormal = MathF.ScaleB(1, 1 - bias);

    /// <summary>The number whose unit in the last place is that of the subnormal ones.</summary>
    private readonly float _subnormal = MathF.ScaleB(1, 1 - bias - mantissaBits + 23);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Round<T>(T value, out T magnitude)
        where T : unmanaged, ILanes<T>
    {
        T clamped = T.MinBits(Rounding.Magnitude(value), T.BroadcastBits(BitConverter.SingleToUInt32Bits(largest)));
        T rounded = T.AndBits(Rounding.RoundBits(clamped, _lost), T.BroadcastBits(uint.MaxValue << _lost));
        T shifted = T.Add(clamped, T.Broadcast(_subnormal));
        T isNormal = T.GreaterThanBits(clamped, T.BroadcastBits(BitConverter.SingleToUInt32Bits(_smallestNormal) - 1));
        magnitude = T.Select(isNormal, rounded, T.Subtract(shifted, T.Broadcast(_subnormal)));
        T code = T.Select(
            isNormal,
            T.ShiftRightBits(T.SubtractBits(rounded, T.BroadcastBits(_bias)), _lost),
            T.SubtractBits(shifted, T.BroadcastBits(BitConverter.SingleToUInt32Bits(_subnormal))));
        return T.OrBits(code, T.ShiftLeftBits(T.ShiftRightBits(value, 31), signBit));
    }
}

/// <summary>Integers around a zero point: the code of a weight of zero. The offset is added to each code when it is stored.</summary>
internal readonly struct IntegerGrid(int lowest, int highest, int zero, int offset) : IGrid
{
    // A float of this size has no fraction.
    private const float NoFraction = 1 << 23;

    private readonly float _below = zero - lowest;
    private readonly float _above = highest - zero;
    private readonly uint _zero = (uint)(zero + offset);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Round<T>(T value, out T magnitude)
        where T : unmanaged, ILanes<T>
    {
        T isNegative = T.GreaterThanBits(value, T.BroadcastBits(0x7FFF_FFFF));
        T clamped = T.MinBits(Rounding.Magnitude(value), T.Select(isNegative, T.Broadcast(_below), T.Broadcast(_above)));
        T shifted = T.Add(clamped, T.Broadcast(NoFraction));
        magnitude = T.Subtract(shifted, T.Broadcast(NoFraction));
        T steps = T.SubtractBits(shifted, T.BroadcastBits(BitConverter.SingleToUInt32Bits(NoFraction)));
        T code = T.BroadcastBits(_zero);
        return T.AndBits(T.Select(isNegative, T.SubtractBits(code, steps), T.AddBits(code, steps)), T.BroadcastBits(0xFF));
    }
}
