namespace UnslothMerge.Simd;

/// <summary>bitsandbytes' 4-bit formats (NF4, FP4): codes of a 16-entry table, scaled per block of the flattened tensor.</summary>
internal static unsafe class FourBit
{
    /// <summary>value = code16[nibble] · absmax[block] in fp32, then rounded once to a dtype, as bitsandbytes does; the same bits on every
    /// width. Packed are the bytes from that of the first element, high nibble first; its index in the flattened tensor may be odd. absmax
    /// has the blocks from that of the first element to that of the last: a multiple of 16 elements, which may cross rows; the last may be
    /// short.</summary>
    public static void Decode(
        ReadOnlySpan<byte> packed,
        long firstElement,
        ReadOnlySpan<float> code16,
        ReadOnlySpan<float> absmax,
        int blockSize,
        RoundTo roundTo,
        Span<float> values,
        SimdWidth? width = null)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(firstElement);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(blockSize);
        ArgumentOutOfRangeException.ThrowIfNotEqual(blockSize % 16, 0, nameof(blockSize));
        ArgumentOutOfRangeException.ThrowIfNotEqual(code16.Length, 16, nameof(code16));
        if (values.IsEmpty)
        {
            return;
        }

        long nibbles = (firstElement % 2) + values.Length;
        ArgumentOutOfRangeException.ThrowIfLessThan(packed.Length, (nibbles + 1) / 2, nameof(packed));
        int position = (int)(firstElement % blockSize);
        long blocks = ((long)position + values.Length + blockSize - 1) / blockSize;
        ArgumentOutOfRangeException.ThrowIfLessThan(absmax.Length, blocks, nameof(absmax));

        switch (roundTo)
        {
            case RoundTo.BFloat16: Decode<BFloat16Format>(packed, position, code16, absmax, blockSize, values, width); break;
            case RoundTo.Half: Decode<HalfFormat>(packed, position, code16, absmax, blockSize, values, width); break;
            default: Decode<SingleFormat>(packed, position, code16, absmax, blockSize, values, width); break;
        }
    }

    /// <summary>The scales of a nested (doubly quantized) tensor: nestedMap[q] · nestedAbsmax[block / nestedBlockSize] + offset, two
    /// rounded fp32 operations, as bitsandbytes does.</summary>
    public static void NestedAbsmax(
        ReadOnlySpan<byte> q,
        ReadOnlySpan<float> nestedMap256,
        ReadOnlySpan<float> nestedAbsmax,
        int firstBlock,
        int nestedBlockSize,
        float offset,
        Span<float> absmax)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(firstBlock);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(nestedBlockSize);
        ArgumentOutOfRangeException.ThrowIfNotEqual(nestedMap256.Length, 256, nameof(nestedMap256));
        ArgumentOutOfRangeException.ThrowIfNotEqual(absmax.Length, q.Length, nameof(absmax));

        // One scale serves a whole block of elements, so this loop is not worth a vector.
        int nested = firstBlock / nestedBlockSize;
        int remaining = nestedBlockSize - (firstBlock % nestedBlockSize);
        for (int done = 0; done < q.Length;)
        {
            int end = Math.Min(q.Length, done + remaining);
            float scale = nestedAbsmax[nested];
            for (; done < end; done++)
            {
                // The cast is the rounding of the product: C# may keep a float expression in more precision without it.
                absmax[done] = (float)(nestedMap256[q[done]] * scale) + offset;
            }

            nested++;
            remaining = nestedBlockSize;
        }
    }

    private static void Decode<TFormat>(
        ReadOnlySpan<byte> packed,
        int position,
        ReadOnlySpan<float> code16,
        ReadOnlySpan<float> absmax,
        int blockSize,
        Span<float> values,
        SimdWidth? width)
        where TFormat : struct, IOutputFormat
    {
        fixed (byte* p = packed)
        fixed (float* c = code16)
        fixed (float* a = absmax)
        fixed (float* v = values)
        {
            switch (width ?? SimdWidths.Widest)
            {
                case SimdWidth.Vector512: Decode<Lanes512, TFormat>(p, position, c, a, blockSize, v, values.Length); break;
                case SimdWidth.Vector256: Decode<Lanes256, TFormat>(p, position, c, a, blockSize, v, values.Length); break;
                default: Decode<Lanes128, TFormat>(p, position, c, a, blockSize, v, values.Length); break;
            }
        }
    }

    private static void Decode<T, TFormat>(
        byte* packed, int position, float* code16, float* absmax, int blockSize, float* values, int count)
        where T : unmanaged, ILanes<T>
        where TFormat : struct, IOutputFormat
    {
        // Sixteens at multiples of sixteen lie in one block and begin with a byte; a row may begin and end inside of one.
        int offset = position % ILanes<T>.Count;
        if (offset > 0)
        {
            int part = Math.Min(count, ILanes<T>.Count - offset);
            Part<T, TFormat>(packed, offset, part, code16, absmax, values);
            count -= part;
            values += part;
            packed += ((offset + part) / 2) - (offset / 2);
            position += part;
        }

        int rest = count % ILanes<T>.Count;
        int whole = count - rest;
        Sixteens<T, TFormat>(packed, position, code16, absmax, blockSize, values, whole);
        if (rest > 0)
        {
            absmax += ((nint)position + whole) / blockSize;
            Part<T, TFormat>(packed + (whole / 2), 0, rest, code16, absmax, values + whole);
        }
    }

    /// <summary>The loop, alone in its method: near a call the JIT would keep vectors in memory. The position is that of the first element
    /// in its block; the end of the block is allowed.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Sixteens<T, TFormat>(
        byte* packed, int position, float* code16, float* absmax, int blockSize, float* values, int count)
        where T : unmanaged, ILanes<T>
        where TFormat : struct, IOutputFormat
    {
        while (count > 0)
        {
            int inBlock = Math.Min(blockSize - position, count);
            T scale = T.Broadcast(*absmax++);
            for (int i = 0; i < inBlock; i += ILanes<T>.Count)
            {
                T value = T.Multiply(T.LookUpNibbles(Unsafe.ReadUnaligned<ulong>(packed), code16), scale);
                T.Store(TFormat.Round(value), values);
                packed += ILanes<T>.Count / 2;
                values += ILanes<T>.Count;
            }

            count -= inBlock;
            position = 0;
        }
    }

    /// <summary>Elements inside of one sixteen, from its offset on; packed begins at the byte of the first element.</summary>
    private static void Part<T, TFormat>(byte* packed, int offset, int count, float* code16, float* absmax, float* values)
        where T : unmanaged, ILanes<T>
        where TFormat : struct, IOutputFormat
    {
        int odd = offset % 2;
        ulong bytes = 0;
        Unsafe.CopyBlockUnaligned(&bytes, packed, (uint)(odd + count + 1) / 2);
        float* sixteen = stackalloc float[ILanes<T>.Count];
        Sixteens<T, TFormat>((byte*)&bytes, 0, code16, absmax, ILanes<T>.Count, sixteen, ILanes<T>.Count);
        Unsafe.CopyBlockUnaligned(values, sixteen + odd, (uint)count * sizeof(float));
    }
}
