namespace UnslothMerge.Simd;

/// <summary>Rows whose columns share scales in groups: their ranges and their codes. A group has a multiple of 16 columns, or is the whole
/// row. Every width gives the same bits.</summary>
internal static unsafe class GroupedCodes
{
    /// <summary>Raises each group's largest magnitude to that of the row's values.</summary>
    public static void Largest(ReadOnlySpan<float> row, int group, Span<float> largest, SimdWidth? width = null)
    {
        Require(row.Length, group, largest.Length);
        fixed (float* r = row)
        fixed (float* l = largest)
        {
            switch (width ?? SimdWidths.Widest)
            {
                case SimdWidth.Vector512: Largest<Lanes512>(r, row.Length, group, l); break;
                case SimdWidth.Vector256: Largest<Lanes256>(r, row.Length, group, l); break;
                default: Largest<Lanes128>(r, row.Length, group, l); break;
            }
        }
    }

    /// <summary>The smallest and the largest value of each group and zero.</summary>
    public static void Range(ReadOnlySpan<float> row, int group, Span<float> lowest, Span<float> highest, SimdWidth? width = null)
    {
        Require(row.Length, group, Math.Min(lowest.Length, highest.Length));
        fixed (float* r = row)
        fixed (float* l = lowest)
        fixed (float* h = highest)
        {
            switch (width ?? SimdWidths.Widest)
            {
                case SimdWidth.Vector512: Range<Lanes512>(r, row.Length, group, l, h); break;
                case SimdWidth.Vector256: Range<Lanes256>(r, row.Length, group, l, h); break;
                default: Range<Lanes128>(r, row.Length, group, l, h); break;
            }
        }
    }

    /// <summary>Quantizes a row: each value divided by its group's scale, in fp32, and rounded to the grid around the group's zero point
    /// (none: zero). The codes may lie in the memory of the values. Statistics receive the squares of the values and of the
    /// errors.</summary>
    public static void Encode<TGrid>(
        ReadOnlySpan<float> row, int group, ReadOnlySpan<float> scales, ReadOnlySpan<float> zeros, Span<byte> codes,
        ref TileStatistics statistics, SimdWidth? width = null)
        where TGrid : struct, IRowGrid
    {
        Require(row.Length, group, scales.Length);
        ArgumentOutOfRangeException.ThrowIfNotEqual(codes.Length, row.Length * TGrid.Bits / 8, nameof(codes));
        ArgumentOutOfRangeException.ThrowIfNotEqual(zeros.Length, zeros.IsEmpty ? 0 : scales.Length, nameof(zeros));
        fixed (float* r = row)
        fixed (float* s = scales)
        fixed (float* z = zeros)
        fixed (byte* c = codes)
        {
            switch (width ?? SimdWidths.Widest)
            {
                case SimdWidth.Vector512: Encode<Lanes512, TGrid>(r, row.Length, group, s, z, c, ref statistics); break;
                case SimdWidth.Vector256: Encode<Lanes256, TGrid>(r, row.Length, group, s, z, c, ref statistics); break;
                default: Encode<Lanes128, TGrid>(r, row.Length, group, s, z, c, ref statistics); break;
            }
        }
    }

    /// <summary>Replaces a row's values by what their codes stand for.</summary>
    public static void RoundTrip<TGrid>(
        Span<float> row, int group, ReadOnlySpan<float> scales, ReadOnlySpan<float> zeros, SimdWidth? width = null)
        where TGrid : struct, IRowGrid
    {
        Require(row.Length, group, scales.Length);
        ArgumentOutOfRangeException.ThrowIfNotEqual(zeros.Length, zeros.IsEmpty ? 0 : scales.Length, nameof(zeros));
        fixed (float* r = row)
        fixed (float* s = scales)
        fixed (float* z = zeros)
        {
            switch (width ?? SimdWidths.Widest)
            {
                case SimdWidth.Vector512: RoundTrip<Lanes512, TGrid>(r, row.Length, group, s, z); break;
                case SimdWidth.Vector256: RoundTrip<Lanes256, TGrid>(r, row.Length, group, s, z); break;
                default: RoundTrip<Lanes128, TGrid>(r, row.Length, group, s, z); break;
            }
        }
    }

    private static void Require(int columns, int group, int groups)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(group);
        ArgumentOutOfRangeException.ThrowIfNotEqual(columns % group, 0, nameof(columns));
        ArgumentOutOfRangeException.ThrowIfNotEqual(group < columns ? group % 16 : 0, 0, nameof(group));
        ArgumentOutOfRangeException.ThrowIfLessThan(groups, columns / group);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Largest<T>(float* row, int columns, int group, float* largest)
        where T : unmanaged, ILanes<T>
    {
        for (int g = 0; g < columns / group; g++)
        {
            T lanes = T.Broadcast(0);
            nint i = 0;
            for (; i + ILanes<T>.Count <= group; i += ILanes<T>.Count)
            {
                lanes = T.MaxBits(lanes, Rounding.Magnitude(T.Load(row + i)));
            }

            // A copy, because what has an address is not kept in a register.
            T magnitudes = lanes;
            float found = LaneMaximum.Of((uint*)&magnitudes);
            for (; i < group; i++)
            {
                found = MathF.Max(found, MathF.Abs(row[i]));
            }

            largest[g] = MathF.Max(largest[g], found);
            row += group;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Range<T>(float* row, int columns, int group, float* lowest, float* highest)
        where T : unmanaged, ILanes<T>
    {
        for (int g = 0; g < columns / group; g++)
        {
            T low = T.Broadcast(0);
            T high = T.Broadcast(0);
            nint i = 0;
            for (; i + ILanes<T>.Count <= group; i += ILanes<T>.Count)
            {
                T value = T.Load(row + i);
                T isNegative = T.GreaterThanBits(value, T.BroadcastBits(0x7FFF_FFFF));
                low = T.MaxBits(low, T.AndBits(Rounding.Magnitude(value), isNegative));
                high = T.MaxBits(high, T.Select(isNegative, T.Broadcast(0), value));
            }

            T lows = low, highs = high;
            (float least, float most) = (-LaneMaximum.Of((uint*)&lows), LaneMaximum.Of((uint*)&highs));
            for (; i < group; i++)
            {
                (least, most) = (MathF.Min(least, row[i]), MathF.Max(most, row[i]));
            }

            (lowest[g], highest[g]) = (least, most);
            row += group;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RoundTrip<T, TGrid>(float* row, int columns, int group, float* scales, float* zeros)
        where T : unmanaged, ILanes<T>
        where TGrid : struct, IRowGrid
    {
        float* rest = stackalloc float[ILanes<T>.Count];
        for (int g = 0; g < columns / group; g++)
        {
            T scale = T.Broadcast(scales[g]);
            T zero = T.Broadcast(zeros is null ? 0 : zeros[g]);
            for (nint i = 0; i < group; i += ILanes<T>.Count)
            {
                int count = (int)Math.Min(ILanes<T>.Count, group - i);
                Unsafe.CopyBlockUnaligned(rest, row, (uint)count * sizeof(float));
                T value = T.Load(rest);
                TGrid.Round(T.Divide(value, scale), zero, out T magnitude);
                T sign = T.AndBits(value, T.BroadcastBits(0x8000_0000));
                T.Store(T.OrBits(T.Multiply(magnitude, scale), sign), rest);
                Unsafe.CopyBlockUnaligned(row, rest, (uint)count * sizeof(float));
                row += count;
            }
        }
    }

    [SkipLocalsInit]
    private static void Encode<T, TGrid>(
        float* row, int columns, int group, float* scales, float* zeros, byte* codes, ref TileStatistics statistics)
        where T : unmanaged, ILanes<T>
        where TGrid : struct, IRowGrid
    {
        T* sums = stackalloc T[] { T.Broadcast(0), T.Broadcast(0) };
        int whole = group & -ILanes<T>.Count;
        Sixteens<T, TGrid>(row, columns / group, whole, scales, zeros, codes, sums);
        if (whole < group)
        {
            // The end of a row that is one group; the zeros behind it add nothing to any sum.
            float* rest = stackalloc float[ILanes<T>.Count];
            byte* encoded = stackalloc byte[ILanes<T>.Count];
            Unsafe.InitBlockUnaligned(rest, 0, (uint)ILanes<T>.Count * sizeof(float));
            Unsafe.CopyBlockUnaligned(rest, row + whole, (uint)(group - whole) * sizeof(float));
            Sixteens<T, TGrid>(rest, 1, ILanes<T>.Count, scales, zeros, encoded, sums);
            Unsafe.CopyBlockUnaligned(codes + (whole * TGrid.Bits / 8), encoded, (uint)((group - whole) * TGrid.Bits / 8));
        }

        statistics.ValueSquares += Combine.Fold((float*)sums);
        statistics.ErrorSquares += Combine.Fold((float*)(sums + 1));
    }

    /// <summary>The loop itself, alone in its method: near a call the JIT would keep the sums in memory instead of registers.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Sixteens<T, TGrid>(float* row, int groups, int group, float* scales, float* zeros, byte* codes, T* sums)
        where T : unmanaged, ILanes<T>
        where TGrid : struct, IRowGrid
    {
        T valueSquares = sums[0];
        T errorSquares = sums[1];
        for (int g = 0; g < groups; g++)
        {
            T scale = T.Broadcast(scales[g]);
            T zero = T.Broadcast(zeros is null ? 0 : zeros[g]);
            for (nint i = 0; i < group; i += ILanes<T>.Count)
            {
                T value = T.Load(row);
                T code = TGrid.Round(T.Divide(value, scale), zero, out T magnitude);
                T error = T.Subtract(T.Multiply(magnitude, scale), Rounding.Magnitude(value));
                valueSquares = T.FusedMultiplyAdd(value, value, valueSquares);
                errorSquares = T.FusedMultiplyAdd(error, error, errorSquares);
                if (TGrid.Bits == 4)
                {
                    Unsafe.WriteUnaligned(codes, Nibbles.PackLowFirst(code));
                }
                else
                {
                    T.NarrowToBytes(code).Store(codes);
                }

                row += ILanes<T>.Count;
                codes += ILanes<T>.Count * TGrid.Bits / 8;
            }
        }

        sums[0] = valueSquares;
        sums[1] = errorSquares;
    }
}
