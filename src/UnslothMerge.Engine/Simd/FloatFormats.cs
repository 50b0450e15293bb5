namespace UnslothMerge.Simd;

/// <summary>Decodes stored floats into an fp32 plane. Exact, except that a double is rounded once.</summary>
internal static unsafe class FloatFormats
{
    /// <summary>The positive quiet NaN without payload. Every NaN is written as this one: the NaN that an addition gives differs between
    /// x86 and Arm, and with the order of the operands.</summary>
    public static float QuietNaN => BitConverter.UInt32BitsToSingle(0x7FC0_0000);

    /// <summary>Decodes with the widest vectors, or with a given width; every width gives the same bits.</summary>
    public static void Decode<TFormat>(ReadOnlySpan<byte> stored, Span<float> values, SimdWidth? width = null)
        where TFormat : struct, IElementFormat
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(stored.Length, (long)values.Length * TFormat.Size, nameof(stored));
        fixed (byte* source = stored)
        fixed (float* destination = values)
        {
            switch (width ?? SimdWidths.Widest)
            {
                case SimdWidth.Vector512: Decode<Lanes512, TFormat>(source, destination, values.Length); break;
                case SimdWidth.Vector256: Decode<Lanes256, TFormat>(source, destination, values.Length); break;
                default: Decode<Lanes128, TFormat>(source, destination, values.Length); break;
            }
        }
    }

    private static void Decode<T, TFormat>(byte* source, float* destination, int count)
        where T : unmanaged, ILanes<T>
        where TFormat : struct, IElementFormat
    {
        int whole = count & -ILanes<T>.Count;
        Sixteens<T, TFormat>(source, destination, whole);
        if (whole < count)
        {
            Rest<T, TFormat>(source + ((nint)whole * TFormat.Size), destination + whole, count - whole);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Sixteens<T, TFormat>(byte* source, float* destination, nint count)
        where T : unmanaged, ILanes<T>
        where TFormat : struct, IElementFormat
    {
        for (nint i = 0; i < count; i += ILanes<T>.Count)
        {
            T.Store(TFormat.Load<T>(source + (i * TFormat.Size)), destination + i);
        }
    }

    /// <summary>Less than sixteen elements, through buffers of sixteen, so that they are computed as all others.</summary>
    private static void Rest<T, TFormat>(byte* source, float* destination, int count)
        where T : unmanaged, ILanes<T>
        where TFormat : struct, IElementFormat
    {
        byte* padded = stackalloc byte[ILanes<T>.Count * sizeof(double)];
        float* decoded = stackalloc float[ILanes<T>.Count];
        Unsafe.CopyBlockUnaligned(padded, source, (uint)(count * TFormat.Size));
        Sixteens<T, TFormat>(padded, decoded, ILanes<T>.Count);
        Unsafe.CopyBlockUnaligned(destination, decoded, (uint)count * sizeof(float));
    }
}
