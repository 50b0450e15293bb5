namespace UnslothMerge.Simd;

/// <summary>The last step of a tile: weight + delta in fp32, rounded once to nearest even into the output format. The weight may still be
/// as the base stores it, and is then widened on the way. NaN is stored as the canonical quiet NaN.</summary>
/// <remarks>An empty delta means a pure conversion: nothing is added, so a negative zero stays one.</remarks>
internal static unsafe class Combine
{
    /// <summary>Combines one row segment; every width gives the same bits and sums.</summary>
    public static void To<TFormat>(
        ReadOnlySpan<float> weight, ReadOnlySpan<float> delta, Span<byte> stored, ref TileStatistics statistics, SimdWidth? width = null)
        where TFormat : struct, IOutputFormat
    {
        if (!delta.IsEmpty)
        {
            ArgumentOutOfRangeException.ThrowIfNotEqual(delta.Length, weight.Length, nameof(delta));
        }

        ArgumentOutOfRangeException.ThrowIfNotEqual(stored.Length, (long)weight.Length * TFormat.Size, nameof(stored));
        Rows<SingleFormat, TFormat>(MemoryMarshal.AsBytes(weight), delta, stored, rows: 1, weight.Length, weight.Length, weight.Length,
            ref statistics, width ?? SimdWidths.Widest);
    }

    /// <summary>Combines rows of a tile, each a segment of its own; strides are in elements. The output may be the memory of the weight, if
    /// the formats have one size; what a NaN becomes is then undefined. Without a delta it converts.</summary>
    public static void Rows<TSource, TFormat>(
        ReadOnlySpan<byte> weight, ReadOnlySpan<float> delta, Span<byte> stored, int rows, int columns, int weightStride, int storedStride,
            ref TileStatistics statistics)
        where TSource : struct, IElementFormat
        where TFormat : struct, IOutputFormat =>
            Rows<TSource, TFormat>(weight, delta, stored, rows, columns, weightStride, storedStride, ref statistics, SimdWidths.Widest);

    /// <summary>Combines rows with a given width; every width gives the same bits and sums.</summary>
    internal static void Rows<TSource, TFormat>(
        ReadOnlySpan<byte> weight, ReadOnlySpan<float> delta, Span<byte> stored, int rows, int columns, int weightStride, int storedStride,
            ref TileStatistics statistics, SimdWidth width)
        where TSource : struct, IElementFormat
        where TFormat : struct, IOutputFormat
    {
        if (rows <= 0 || columns <= 0)
        {
            return;
        }

        ArgumentOutOfRangeException.ThrowIfLessThan(weightStride, columns);
        ArgumentOutOfRangeException.ThrowIfLessThan(storedStride, columns);
        ArgumentOutOfRangeException.ThrowIfLessThan(weight.Length, (((rows - 1L) * weightStride) + columns) * TSource.Size, nameof(weight));
        ArgumentOutOfRangeException.ThrowIfLessThan(stored.Length, (((rows - 1L) * storedStride) + columns) * TFormat.Size, nameof(stored));
        ArgumentOutOfRangeException.ThrowIfLessThan(delta.Length, delta.IsEmpty ? 0 : (long)rows * columns, nameof(delta));
        fixed (byte* w = weight)
        fixed (float* d = delta)
        fixed (byte* s = stored)
        {
            switch (width)
            {
                case SimdWidth.Vector512: Rows<Lanes512, TSource, TFormat>(w, d, s, rows, columns, weightStride, storedStride,
                    ref statistics); break;
                case SimdWidth.Vector256: Rows<Lanes256, TSource, TFormat>(w, d, s, rows, columns, weightStride, storedStride,
                    ref statistics); break;
                default: Rows<Lanes128, TSource, TFormat>(w, d, s, rows, columns, weightStride, storedStride, ref statistics); break;
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Rows<T, TSource, TFormat>(byte* weight, float* delta, byte* stored, int rows, int columns, nint weightStride,
        nint storedStride, ref TileStatistics statistics)
        where T : unmanaged, ILanes<T>
        where TSource : struct, IElementFormat
        where TFormat : struct, IOutputFormat
    {
        PartialSums<T> sums = default;
        nint whole = columns & -ILanes<T>.Count;
        for (nint row = 0; row < rows; row++)
        {
            byte* source = weight + (row * weightStride * TSource.Size);
            float* added = delta is null ? null : delta + (row * columns);
            byte* target = stored + (row * storedStride * TFormat.Size);
            Sixteens<T, TSource, TFormat>(source, added, target, whole, &sums);
            if (whole < columns)
            {
                Rest<T, TSource, TFormat>(source + (whole * TSource.Size), added is null ? null : added + whole,
                    target + (whole * TFormat.Size), columns - (int)whole, &sums);
            }
        }

        statistics.WeightSquares += Fold((float*)&sums.WeightSquares);
        statistics.DeltaSquares += Fold((float*)&sums.DeltaSquares);

        // Rounding is monotonic, so the largest magnitude decides for all (as an integer, a NaN is larger than any number).
        statistics.NonFinite |= Exceeds((uint*)&sums.Largest, TFormat.FirstNonFinite - 1);
        if (Exceeds((uint*)&sums.Largest, Rounding.Infinity))
        {
            for (nint row = 0; row < rows; row++)
            {
                ReplaceNaNs<TSource, TFormat>(weight + (row * weightStride * TSource.Size), delta is null ? null : delta + (row * columns),
                    stored + (row * storedStride * TFormat.Size), columns);
            }
        }
    }

    /// <summary>The loop over a multiple of sixteen elements, alone in its method: near a call the JIT would keep the sums in memory
    /// instead of registers.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Sixteens<T, TSource, TFormat>(byte* weight, float* delta, byte* stored, nint count, PartialSums<T>* sums)
        where T : unmanaged, ILanes<T>
        where TSource : struct, IElementFormat
        where TFormat : struct, IOutputFormat
    {
        T weightSquares = sums->WeightSquares;
        T deltaSquares = sums->DeltaSquares;
        T largest = sums->Largest;
        if (delta is null)
        {
            for (nint i = 0; i < count; i += ILanes<T>.Count)
            {
                T value = TSource.Load<T>(weight + (i * TSource.Size));
                weightSquares = T.FusedMultiplyAdd(value, value, weightSquares);
                largest = T.MaxBits(largest, Rounding.Magnitude(value));
                TFormat.Store(value, stored + (i * TFormat.Size));
            }
        }
        else
        {
            for (nint i = 0; i < count; i += ILanes<T>.Count)
            {
                T left = TSource.Load<T>(weight + (i * TSource.Size));
                T right = T.Load(delta + i);
                T value = T.Add(left, right);
                weightSquares = T.FusedMultiplyAdd(left, left, weightSquares);
                deltaSquares = T.FusedMultiplyAdd(right, right, deltaSquares);
                largest = T.MaxBits(largest, Rounding.Magnitude(value));
                TFormat.Store(value, stored + (i * TFormat.Size));
            }
        }

        sums->WeightSquares = weightSquares;
        sums->DeltaSquares = deltaSquares;
        sums->Largest = largest;
    }

    /// <summary>Less than sixteen elements, in buffers of a full sixteen; the zeros in them add nothing to any sum.</summary>
    private static void Rest<T, TSource, TFormat>(byte* weight, float* delta, byte* stored, int count, PartialSums<T>* sums)
        where T : unmanaged, ILanes<T>
        where TSource : struct, IElementFormat
        where TFormat : struct, IOutputFormat
    {
        byte* left = stackalloc byte[ILanes<T>.Count * sizeof(double)];
        float* right = stackalloc float[ILanes<T>.Count];
        byte* encoded = stackalloc byte[ILanes<T>.Count * sizeof(float)];
        Unsafe.CopyBlockUnaligned(left, weight, (uint)(count * TSource.Size));
        if (delta is not null)
        {
            Unsafe.CopyBlockUnaligned(right, delta, (uint)count * sizeof(float));
        }

        PartialSums<T> rest = default;
        Sixteens<T, TSource, TFormat>(left, delta is null ? null : right, encoded, ILanes<T>.Count, &rest);
        Unsafe.CopyBlockUnaligned(stored, encoded, (uint)(count * TFormat.Size));
        sums->WeightSquares = T.Add(sums->WeightSquares, rest.WeightSquares);
        sums->DeltaSquares = T.Add(sums->DeltaSquares, rest.DeltaSquares);
        sums->Largest = T.MaxBits(sums->Largest, rest.Largest);
    }

    /// <summary>Overwrites NaNs after <see cref="Sixteens"/>, whose loop does not check for these rare values.</summary>
    private static void ReplaceNaNs<TSource, TFormat>(byte* weight, float* delta, byte* stored, int count)
        where TSource : struct, IElementFormat
        where TFormat : struct, IOutputFormat
    {
        byte* padded = stackalloc byte[ILanes<Lanes128>.Count * sizeof(double)];
        float* values = stackalloc float[ILanes<Lanes128>.Count];
        for (nint i = 0; i < count; i++)
        {
            Unsafe.CopyBlockUnaligned(padded, weight + (i * TSource.Size), (uint)TSource.Size);
            Lanes128.Store(TSource.Load<Lanes128>(padded), values);
            if (float.IsNaN(delta is null ? *values : *values + delta[i]))
            {
                TFormat.StoreNaN(stored + (i * TFormat.Size));
            }
        }
    }

    /// <summary>The sum of sixteen partial sums, pairwise and in double. 128 bits suffice, and are the same sum everywhere.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static double Fold(float* lanes)
    {
        Vector128<float> a = Vector128.Load(lanes);
        Vector128<float> b = Vector128.Load(lanes + 4);
        Vector128<float> c = Vector128.Load(lanes + 8);
        Vector128<float> d = Vector128.Load(lanes + 12);
        Vector128<double> even = (Vector128.WidenLower(a) + Vector128.WidenLower(b)) + (Vector128.WidenLower(c) + Vector128.WidenLower(d));
        Vector128<double> odd = (Vector128.WidenUpper(a) + Vector128.WidenUpper(b)) + (Vector128.WidenUpper(c) + Vector128.WidenUpper(d));
        Vector128<double> both = even + odd;
        return both[0] + both[1];
    }

    private static bool Exceeds(uint* lanes, uint limit) =>
        Vector128.GreaterThanAny(
            Vector128.Max(
                Vector128.Max(Vector128.Load(lanes), Vector128.Load(lanes + 4)),
                Vector128.Max(Vector128.Load(lanes + 8), Vector128.Load(lanes + 12))),
            Vector128.Create(limit));

    /// <summary>The sums over the elements of a tile, per lane.</summary>
    private struct PartialSums<T>
        where T : unmanaged, ILanes<T>
    {
        public T WeightSquares;
        public T DeltaSquares;

        /// <summary>The largest magnitude of an output, as bits.</summary>
        public T Largest;
    }
}
