namespace UnslothMerge.Simd;

/// <summary>The values that codes stand for, fixed at compile time.</summary>
internal interface IRowGrid
{
    /// <summary>4 or 8 bits a code.</summary>
    static abstract int Bits { get; }

    /// <summary>Rounds sixteen numbers, divided by their scale, to the grid, ties to even; numbers beyond it become its last value. Gives
    /// codes, and the distance of each rounded number from that of a weight of zero, in fp32. Only some grids have a zero
    /// point.</summary>
    static abstract T Round<T>(T value, T zero, out T magnitude)
        where T : unmanaged, ILanes<T>;
}

/// <summary>FP8 E4M3 up to 448. What is negative stays so when it rounds to zero, and so does a negative zero.</summary>
internal readonly struct E4M3Grid : IRowGrid
{
    public static int Bits => 8;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Round<T>(T value, T zero, out T magnitude)
        where T : unmanaged, ILanes<T> => new FloatGrid(3, 7, 7, 448).Round(value, out magnitude);
}

/// <summary>FP4 E2M1 up to 6. What is negative stays so when it rounds to zero, but a negative zero becomes zero.</summary>
internal readonly struct E2M1Grid : IRowGrid
{
    public static int Bits => 4;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Round<T>(T value, T zero, out T magnitude)
        where T : unmanaged, ILanes<T>
    {
        T isNegative = T.GreaterThanBits(value, T.BroadcastBits(0x8000_0000));
        T code = new FloatGrid(1, 1, 3, 6).Round(Rounding.Magnitude(value), out magnitude);
        return T.OrBits(code, T.AndBits(isNegative, T.BroadcastBits(8)));
    }
}

/// <summary>Integers from -128 to 127, in two's complement.</summary>
internal readonly struct SignedByteGrid : IRowGrid
{
    public static int Bits => 8;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Round<T>(T value, T zero, out T magnitude)
        where T : unmanaged, ILanes<T> => new IntegerGrid(-128, 127, 0, 0).Round(value, out magnitude);
}

/// <summary>Integers from -128 to 127, stored with 128 added.</summary>
internal readonly struct OffsetByteGrid : IRowGrid
{
    public static int Bits => 8;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Round<T>(T value, T zero, out T magnitude)
        where T : unmanaged, ILanes<T> => new IntegerGrid(-128, 127, 0, 128).Round(value, out magnitude);
}

/// <summary>Integers from -8 to 7 around a zero point, stored with 8 added. The zero point is added before the rounding.</summary>
internal readonly struct OffsetNibbleGrid : IRowGrid
{
    // Added to a small number it leaves no fraction, and the integer in the lowest bits.
    private const float Integer = 3 << 22;

    public static int Bits => 4;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Round<T>(T value, T zero, out T magnitude)
        where T : unmanaged, ILanes<T>
    {
        T moved = T.Add(value, zero);
        T low = T.Select(T.GreaterThan(T.Broadcast(-8), moved), T.Broadcast(-8), moved);
        T clamped = T.Select(T.GreaterThan(low, T.Broadcast(7)), T.Broadcast(7), low);
        T shifted = T.Add(clamped, T.Broadcast(Integer));
        magnitude = Rounding.Magnitude(T.Subtract(T.Subtract(shifted, T.Broadcast(Integer)), zero));
        return T.AndBits(T.AddBits(shifted, T.BroadcastBits(8)), T.BroadcastBits(15));
    }
}
