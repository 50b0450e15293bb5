namespace UnslothMerge.Simd;

/// <summary>Quantizes values that share a scale, and finds their largest magnitude. Every width gives the same bits.</summary>
internal static unsafe class Quantization
{
    /// <summary>Codes of finite values: each divided by the scale, in fp32, and rounded to the grid. Statistics receive the squares of the
    /// values and of the errors.</summary>
    public static void Encode<TGrid>(
        in TGrid grid, ReadOnlySpan<float> values, float scale, Span<byte> codes, ref TileStatistics statistics, SimdWidth? width = null)
        where TGrid : struct, IGrid
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(codes.Length, values.Length, nameof(codes));
        fixed (float* v = values)
        fixed (byte* c = codes)
        {
            switch (width ?? SimdWidths.Widest)
            {
                case SimdWidth.Vector512: Encode<Lanes512, TGrid>(grid, v, scale, c, values.Length, ref statistics); break;
                case SimdWidth.Vector256: Encode<Lanes256, TGrid>(grid, v, scale, c, values.Length, ref statistics); break;
                default: Encode<Lanes128, TGrid>(grid, v, scale, c, values.Length, ref statistics); break;
            }
        }
    }

    /// <summary>Replaces finite values by what their codes stand for. For samples: always at 128 bits.</summary>
    public static void RoundTrip<TGrid>(in TGrid grid, Span<float> values, float scale)
        where TGrid : struct, IGrid
    {
        Lanes128 divisor = Lanes128.Broadcast(scale);
        Lanes128 factor = Lanes128.Broadcast(MathF.Abs(scale));
        float* lanes = stackalloc float[ILanes<Lanes128>.Count];
        for (; !values.IsEmpty; values = values[Math.Min(ILanes<Lanes128>.Count, values.Length)..])
        {
            Span<float> some = values[..Math.Min(ILanes<Lanes128>.Count, values.Length)];
            some.CopyTo(new Span<float>(lanes, ILanes<Lanes128>.Count));
            Lanes128 value = Lanes128.Load(lanes);
            grid.Round(Lanes128.Divide(value, divisor), out Lanes128 magnitude);
            Lanes128 sign = Lanes128.AndBits(value, Lanes128.BroadcastBits(0x8000_0000));
            Lanes128.Store(Lanes128.OrBits(Lanes128.Multiply(magnitude, factor), sign), lanes);
            new Span<float>(lanes, some.Length).CopyTo(some);
        }
    }

    public static float LargestMagnitude(ReadOnlySpan<float> values, SimdWidth? width = null)
    {
        fixed (float* v = values)
        {
            return (width ?? SimdWidths.Widest) switch
            {
                SimdWidth.Vector512 => LargestMagnitude<Lanes512>(v, values.Length),
                SimdWidth.Vector256 => LargestMagnitude<Lanes256>(v, values.Length),
                _ => LargestMagnitude<Lanes128>(v, values.Length),
            };
        }
    }

    [SkipLocalsInit]
    private static void Encode<T, TGrid>(in TGrid grid, float* values, float scale, byte* codes, int count, ref TileStatistics statistics)
        where T : unmanaged, ILanes<T>
        where TGrid : struct, IGrid
    {
        Sums<T> sums;
        int whole = count & -ILanes<T>.Count;
        Sixteens(grid, values, scale, codes, whole, &sums);
        if (whole < count)
        {
            // The zeros behind the rest add nothing to any sum.
            float* rest = stackalloc float[ILanes<T>.Count];
            byte* encoded = stackalloc byte[ILanes<T>.Count];
            Unsafe.InitBlockUnaligned(rest, 0, (uint)ILanes<T>.Count * sizeof(float));
            Unsafe.CopyBlockUnaligned(rest, values + whole, (uint)(count - whole) * sizeof(float));
            Sums<T> more;
            Sixteens(grid, rest, scale, encoded, ILanes<T>.Count, &more);
            Unsafe.CopyBlockUnaligned(codes + whole, encoded, (uint)(count - whole));
            sums.Values = T.Add(sums.Values, more.Values);
            sums.Errors = T.Add(sums.Errors, more.Errors);
        }

        statistics.ValueSquares += Combine.Fold((float*)&sums.Values);
        statistics.ErrorSquares += Combine.Fold((float*)&sums.Errors);
    }

    /// <summary>The loop itself, alone in its method: near a call the JIT would keep the sums in memory instead of registers.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Sixteens<T, TGrid>(in TGrid grid, float* values, float scale, byte* codes, nint count, Sums<T>* sums)
        where T : unmanaged, ILanes<T>
        where TGrid : struct, IGrid
    {
        TGrid local = grid;
        T divisor = T.Broadcast(scale);
        T factor = T.Broadcast(MathF.Abs(scale));
        T valueSquares = T.Broadcast(0);
        T errorSquares = T.Broadcast(0);
        for (nint i = 0; i < count; i += ILanes<T>.Count)
        {
            T value = T.Load(values + i);
            T.NarrowToBytes(local.Round(T.Divide(value, divisor), out T magnitude)).Store(codes + i);
            T error = T.Subtract(T.Multiply(magnitude, factor), Rounding.Magnitude(value));
            valueSquares = T.FusedMultiplyAdd(value, value, valueSquares);
            errorSquares = T.FusedMultiplyAdd(error, error, errorSquares);
        }

        sums->Values = valueSquares;
        sums->Errors = errorSquares;
    }

    [SkipLocalsInit]
    private static float LargestMagnitude<T>(float* values, nint count)
        where T : unmanaged, ILanes<T>
    {
        T largest = T.Broadcast(0);
        nint i = 0;
        for (; i + ILanes<T>.Count <= count; i += ILanes<T>.Count)
        {
            largest = T.MaxBits(largest, Rounding.Magnitude(T.Load(values + i)));
        }

        float* lanes = stackalloc float[ILanes<T>.Count];
        T.Store(largest, lanes);
        float result = 0;
        for (int lane = 0; lane < ILanes<T>.Count; lane++)
        {
            result = MathF.Max(result, lanes[lane]);
        }

        for (; i < count; i++)
        {
            result = MathF.Max(result, MathF.Abs(values[i]));
        }

        return result;
    }

    private struct Sums<T>
        where T : unmanaged, ILanes<T>
    {
        public T Values;
        public T Errors;
    }
}
