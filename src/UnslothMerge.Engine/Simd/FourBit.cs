namespace UnslothMerge.Simd;

/// <summary>bitsandbytes' 4-bit formats (NF4, FP4): codes of a 16-entry table, scaled per block of the flattened tensor.</summary>
internal static unsafe class FourBit
{
    /// <summary>value = code16[nibble] · absmax[block] in fp32, then rounded once to a dtype, as bitsandbytes does; the same bits on every
    /// width. Packed begins with a block, high nibble first, and absmax with that block's; <paramref name="first"/> is the index of the
    /// first element in packed. Blocks are a multiple of 16 elements, may cross rows, and the last may be short.</summary>
    public static void Decode<TFormat>(
        ReadOnlySpan<byte> packed, int first, ReadOnlySpan<float> code16, ReadOnlySpan<float> absmax, int blockSize, Span<float> values,
        SimdWidth? width = null)
        where TFormat : struct, IOutputFormat
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(code16.Length, 16, nameof(code16));
        fixed (float* table = code16)
        {
            ScaledCodes.Decode(new TableCodes<TFormat>(table), packed, first, absmax, [], blockSize, values, width);
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
}
