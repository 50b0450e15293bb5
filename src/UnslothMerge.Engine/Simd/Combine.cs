using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace UnslothMerge.Simd;

/// <summary>
/// The last step of a tile, for one row segment of n elements: weight + delta in fp32, rounded once to nearest even
/// into the output format. NaN is stored as the canonical quiet NaN.
/// </summary>
/// <remarks>An empty delta means a pure conversion: nothing is added, so a negative zero stays one.</remarks>
internal static unsafe class Combine
{
    /// <param name="weight">[n] fp32.</param>
    /// <param name="delta">[n] fp32, or empty.</param>
    /// <param name="stored">[n] little-endian bfloat16, 2 bytes each.</param>
    /// <param name="statistics">What this segment adds to.</param>
    public static void ToBFloat16(
        ReadOnlySpan<float> weight, ReadOnlySpan<float> delta, Span<byte> stored, ref TileStatistics statistics) =>
        To<BFloat16Format>(weight, delta, stored, ref statistics, SimdWidths.Widest);

    /// <inheritdoc cref="ToBFloat16"/>
    /// <param name="stored">[n] little-endian IEEE halves, 2 bytes each.</param>
    public static void ToHalf(
        ReadOnlySpan<float> weight, ReadOnlySpan<float> delta, Span<byte> stored, ref TileStatistics statistics) =>
        To<HalfFormat>(weight, delta, stored, ref statistics, SimdWidths.Widest);

    /// <inheritdoc cref="ToBFloat16"/>
    /// <param name="stored">[n] little-endian fp32, 4 bytes each.</param>
    public static void ToSingle(
        ReadOnlySpan<float> weight, ReadOnlySpan<float> delta, Span<byte> stored, ref TileStatistics statistics) =>
        To<SingleFormat>(weight, delta, stored, ref statistics, SimdWidths.Widest);

    /// <summary>Combines with a given width; every width gives the same bits and sums.</summary>
    internal static void To<TFormat>(
        ReadOnlySpan<float> weight,
        ReadOnlySpan<float> delta,
        Span<byte> stored,
        ref TileStatistics statistics,
        SimdWidth width)
        where TFormat : struct, IOutputFormat
    {
        if (!delta.IsEmpty)
        {
            ArgumentOutOfRangeException.ThrowIfNotEqual(delta.Length, weight.Length, nameof(delta));
        }

        ArgumentOutOfRangeException.ThrowIfNotEqual(stored.Length, (long)weight.Length * TFormat.Size, nameof(stored));
        fixed (float* w = weight)
        fixed (float* d = delta)
        fixed (byte* s = stored)
        {
            switch (width)
            {
                case SimdWidth.Vector512: To<Lanes512, TFormat>(w, d, s, weight.Length, ref statistics); break;
                case SimdWidth.Vector256: To<Lanes256, TFormat>(w, d, s, weight.Length, ref statistics); break;
                case SimdWidth.Vector128: To<Lanes128, TFormat>(w, d, s, weight.Length, ref statistics); break;
                default: To<LanesScalar, TFormat>(w, d, s, weight.Length, ref statistics); break;
            }
        }
    }

    /// <param name="delta">Null for a pure conversion.</param>
    [SkipLocalsInit]
    private static void To<T, TFormat>(float* weight, float* delta, byte* stored, int count, ref TileStatistics statistics)
        where T : unmanaged, ILanes<T>
        where TFormat : struct, IOutputFormat
    {
        PartialSums<T> sums;
        int whole = count & -ILanes<T>.Count;
        Sixteens<T, TFormat>(weight, delta, stored, whole, &sums);
        if (whole < count)
        {
            Rest<T, TFormat>(
                weight + whole, delta is null ? null : delta + whole, stored + ((nint)whole * TFormat.Size), count - whole, &sums);
        }

        statistics.WeightSquares += Fold((float*)&sums.WeightSquares);
        statistics.DeltaSquares += Fold((float*)&sums.DeltaSquares);

        // Rounding is monotonic, so the largest magnitude tells about all (as an integer, a NaN is larger than any number).
        if (Exceeds((uint*)&sums.Largest, TFormat.FirstNonFinite - 1))
        {
            statistics.NonFinite = true;
            if (Exceeds((uint*)&sums.Largest, Rounding.Infinity))
            {
                ReplaceNaNs<TFormat>(weight, delta, stored, count);
            }
        }
    }

    /// <summary>
    /// The loop itself, alone in its method: near a call the JIT would keep the sums in memory instead of registers.
    /// </summary>
    /// <param name="count">Elements, a multiple of sixteen.</param>
    /// <param name="sums">Receives the sums.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Sixteens<T, TFormat>(float* weight, float* delta, byte* stored, nint count, PartialSums<T>* sums)
        where T : unmanaged, ILanes<T>
        where TFormat : struct, IOutputFormat
    {
        T weightSquares = T.Broadcast(0);
        T deltaSquares = T.Broadcast(0);
        T largest = T.Broadcast(0);
        if (delta is null)
        {
            for (nint i = 0; i < count; i += ILanes<T>.Count)
            {
                T value = T.Load(weight + i);
                weightSquares = T.FusedMultiplyAdd(value, value, weightSquares);
                largest = T.MaxBits(largest, Rounding.Magnitude(value));
                TFormat.Store(value, stored + (i * TFormat.Size));
            }
        }
        else
        {
            for (nint i = 0; i < count; i += ILanes<T>.Count)
            {
                T left = T.Load(weight + i);
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
    private static void Rest<T, TFormat>(float* weight, float* delta, byte* stored, int count, PartialSums<T>* sums)
        where T : unmanaged, ILanes<T>
        where TFormat : struct, IOutputFormat
    {
        float* left = stackalloc float[ILanes<T>.Count];
        float* right = stackalloc float[ILanes<T>.Count];
        byte* encoded = stackalloc byte[ILanes<T>.Count * sizeof(float)];
        Unsafe.CopyBlockUnaligned(left, weight, (uint)count * sizeof(float));
        if (delta is not null)
        {
            Unsafe.CopyBlockUnaligned(right, delta, (uint)count * sizeof(float));
        }

        PartialSums<T> rest;
        Sixteens<T, TFormat>(left, delta is null ? null : right, encoded, ILanes<T>.Count, &rest);
        Unsafe.CopyBlockUnaligned(stored, encoded, (uint)(count * TFormat.Size));
        sums->WeightSquares = T.Add(sums->WeightSquares, rest.WeightSquares);
        sums->DeltaSquares = T.Add(sums->DeltaSquares, rest.DeltaSquares);
        sums->Largest = T.MaxBits(sums->Largest, rest.Largest);
    }

    /// <summary>Writes the NaNs over what <see cref="Sixteens"/> made of them. They are too rare to be asked for in its loop.</summary>
    private static void ReplaceNaNs<TFormat>(float* weight, float* delta, byte* stored, int count)
        where TFormat : struct, IOutputFormat
    {
        for (nint i = 0; i < count; i++)
        {
            if (float.IsNaN(delta is null ? weight[i] : weight[i] + delta[i]))
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

    /// <summary>What a segment is summed in, lane by lane.</summary>
    private struct PartialSums<T>
        where T : unmanaged, ILanes<T>
    {
        public T WeightSquares;
        public T DeltaSquares;

        /// <summary>The largest magnitude of an output, as bits.</summary>
        public T Largest;
    }
}
