namespace UnslothMerge.Simd;

/// <summary>Codes with scales, row by row: (code − zero) · scale in fp32, each operation rounded once.</summary>
internal static unsafe class ScaledCodes
{
    /// <summary>Decodes a segment of a row. Scales and zero points (empty for none) are those of the whole row; the columns of a block, a
    /// multiple of 16, share one. Every width gives the same bits.</summary>
    public static void Decode<TCodes>(
        TCodes codes,
        ReadOnlySpan<byte> row,
        int column,
        ReadOnlySpan<float> scales,
        ReadOnlySpan<float> zeros,
        int block,
        Span<float> values,
        SimdWidth? width = null)
        where TCodes : struct, ICodes
    {
        ArgumentOutOfRangeException.ThrowIfNegative(column);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(block);
        ArgumentOutOfRangeException.ThrowIfNotEqual(block % 16, 0, nameof(block));
        if (values.IsEmpty)
        {
            return;
        }

        int last = column + values.Length - 1;
        ArgumentOutOfRangeException.ThrowIfLessThan(row.Length, (((long)last + 1) * codes.Bits + 7) / 8, nameof(row));
        ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(scales.Length, last / block, nameof(scales));
        ArgumentOutOfRangeException.ThrowIfNotEqual(zeros.Length, zeros.IsEmpty ? 0 : scales.Length, nameof(zeros));

        fixed (byte* r = row)
        fixed (float* s = scales)
        fixed (float* z = zeros)
        fixed (float* v = values)
        {
            switch (width ?? SimdWidths.Widest)
            {
                case SimdWidth.Vector512: Decode<Lanes512, TCodes>(codes, r, row.Length, column, s, z, block, v, values.Length); break;
                case SimdWidth.Vector256: Decode<Lanes256, TCodes>(codes, r, row.Length, column, s, z, block, v, values.Length); break;
                default: Decode<Lanes128, TCodes>(codes, r, row.Length, column, s, z, block, v, values.Length); break;
            }
        }
    }

    private static void Decode<T, TCodes>(
        TCodes codes, byte* row, int rowBytes, int column, float* scales, float* zeros, int block, float* values, int count)
        where T : unmanaged, ILanes<T>
        where TCodes : struct, ICodes
    {
        // Sixteens at multiples of sixteen begin with a byte and have one scale; a segment may begin and end inside one.
        int end = column + count;
        int offset = column % ILanes<T>.Count;
        if (offset > 0)
        {
            int part = Math.Min(count, ILanes<T>.Count - offset);
            Part<T, TCodes>(codes, row, rowBytes, column - offset, offset, part, scales, zeros, block, values);
            column += part;
            values += part;
        }

        // The last ones may be too near the end of the row for sixteen bytes to be read.
        int readable = Math.Max(0, rowBytes - 16) / (2 * codes.Bits) * ILanes<T>.Count + ILanes<T>.Count;
        int whole = Math.Max(0, Math.Min(end, rowBytes < 16 ? 0 : readable) - column) & -ILanes<T>.Count;
        Sixteens<T, TCodes>(codes, row, column, scales, zeros, block, values, whole);
        column += whole;
        values += whole;
        while (column < end)
        {
            int part = Math.Min(ILanes<T>.Count, end - column);
            Part<T, TCodes>(codes, row, rowBytes, column, 0, part, scales, zeros, block, values);
            column += part;
            values += part;
        }
    }

    /// <summary>The loop itself, alone in its method: near a call the JIT would keep vectors in memory.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Sixteens<T, TCodes>(
        TCodes codes, byte* row, int column, float* scales, float* zeros, int block, float* values, int count)
        where T : unmanaged, ILanes<T>
        where TCodes : struct, ICodes
    {
        int step = 2 * codes.Bits;
        row += (nint)column / ILanes<T>.Count * step;
        int index = column / block;
        int inBlock = block - (column % block);
        while (count > 0)
        {
            inBlock = Math.Min(inBlock, count);
            T scale = T.Broadcast(scales[index]);
            if (zeros is null)
            {
                for (int i = 0; i < inBlock; i += ILanes<T>.Count)
                {
                    T.Store(TCodes.Round(T.Multiply(codes.Load<T>(row), scale)), values);
                    row += step;
                    values += ILanes<T>.Count;
                }
            }
            else
            {
                T zero = T.Broadcast(zeros[index]);
                for (int i = 0; i < inBlock; i += ILanes<T>.Count)
                {
                    T.Store(TCodes.Round(T.Multiply(T.Subtract(codes.Load<T>(row), zero), scale)), values);
                    row += step;
                    values += ILanes<T>.Count;
                }
            }

            count -= inBlock;
            inBlock = block;
            index++;
        }
    }

    /// <summary>Elements inside of the sixteen at a column, from an offset on.</summary>
    private static void Part<T, TCodes>(
        TCodes codes, byte* row, int rowBytes, int column, int offset, int count, float* scales, float* zeros, int block, float* values)
        where T : unmanaged, ILanes<T>
        where TCodes : struct, ICodes
    {
        byte* padded = stackalloc byte[16];
        float* sixteen = stackalloc float[ILanes<T>.Count];
        nint start = (nint)column / ILanes<T>.Count * 2 * codes.Bits;
        Unsafe.InitBlockUnaligned(padded, 0, 16);
        Unsafe.CopyBlockUnaligned(padded, row + start, (uint)Math.Min(2 * codes.Bits, rowBytes - start));
        int index = column / block;
        Sixteens<T, TCodes>(
            codes, padded, 0, scales + index, zeros is null ? null : zeros + index, ILanes<T>.Count, sixteen, ILanes<T>.Count);
        Unsafe.CopyBlockUnaligned(values, sixteen + offset, (uint)count * sizeof(float));
    }
}
