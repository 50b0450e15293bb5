namespace UnslothMerge.Simd;

/// <summary>A floating-point dtype of stored elements: little endian, one after the other.</summary>
internal unsafe interface IElementFormat
{
    /// <summary>Bytes per element.</summary>
    static abstract int Size { get; }

    /// <summary>Reads sixteen elements.</summary>
    static abstract T Load<T>(byte* source)
        where T : unmanaged, ILanes<T>;
}

/// <summary>A dtype that a merge can write.</summary>
internal unsafe interface IOutputFormat : IElementFormat
{
    /// <summary>The smallest magnitude, as fp32 bits, that rounds to infinity.</summary>
    static abstract uint FirstNonFinite { get; }

    /// <summary>Rounds sixteen values once, and widens them again. NaN becomes <see cref="FloatFormats.QuietNaN"/>.</summary>
    static abstract T Round<T>(T value)
        where T : unmanaged, ILanes<T>;

    /// <summary>Rounds sixteen elements once and writes them. They must not be NaNs: see <see cref="StoreNaN"/>.</summary>
    static abstract void Store<T>(T value, byte* destination)
        where T : unmanaged, ILanes<T>;

    /// <summary>Writes one NaN: positive, quiet, without payload.</summary>
    static abstract void StoreNaN(byte* destination);
}

internal readonly unsafe struct BFloat16Format : IOutputFormat
{
    public static int Size => 2;

    /// <summary>The tie above the largest bfloat16, 0x7F7F: it goes to the even neighbour, infinity.</summary>
    public static uint FirstNonFinite => 0x7F7F_8000;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Load<T>(byte* source)
        where T : unmanaged, ILanes<T> => Rounding.FromBFloat16(T.LoadUInt16(source));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Round<T>(T value)
        where T : unmanaged, ILanes<T> => Rounding.WithQuietNaN(value, Rounding.RoundToBFloat16(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store<T>(T value, byte* destination)
        where T : unmanaged, ILanes<T> => T.StoreUInt16(Rounding.ToBFloat16(value), destination);

    public static void StoreNaN(byte* destination) => Unsafe.WriteUnaligned(destination, (ushort)0x7FC0);
}

internal readonly unsafe struct HalfFormat : IOutputFormat
{
    public static int Size => 2;

    /// <summary>65520, the tie above the largest half, 65504: it goes to infinity.</summary>
    public static uint FirstNonFinite => 0x477F_F000;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Load<T>(byte* source)
        where T : unmanaged, ILanes<T> => Rounding.FromHalf(T.LoadUInt16(source));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Round<T>(T value)
        where T : unmanaged, ILanes<T> => Rounding.WithQuietNaN(value, Rounding.RoundToHalf(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store<T>(T value, byte* destination)
        where T : unmanaged, ILanes<T> => T.StoreUInt16(Rounding.ToHalf(value), destination);

    public static void StoreNaN(byte* destination) => Unsafe.WriteUnaligned(destination, (ushort)0x7E00);
}

internal readonly unsafe struct SingleFormat : IOutputFormat
{
    public static int Size => 4;

    public static uint FirstNonFinite => 0x7F80_0000;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Load<T>(byte* source)
        where T : unmanaged, ILanes<T> => T.Load((float*)source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Round<T>(T value)
        where T : unmanaged, ILanes<T> => Rounding.WithQuietNaN(value, value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store<T>(T value, byte* destination)
        where T : unmanaged, ILanes<T> => T.Store(value, (float*)destination);

    public static void StoreNaN(byte* destination) => Unsafe.WriteUnaligned(destination, FloatFormats.QuietNaN);
}

internal readonly unsafe struct DoubleFormat : IElementFormat
{
    public static int Size => 8;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Load<T>(byte* source)
        where T : unmanaged, ILanes<T> => T.LoadDouble(source);
}
