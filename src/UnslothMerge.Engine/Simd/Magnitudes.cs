namespace UnslothMerge.Simd;

/// <summary>Norms of merged weights and their rescaling (DoRA). There is little to compute, so vectors of 256 bits are enough; partial sums
/// are added pairwise at the end, so that every instruction set gives the same bits.</summary>
internal static unsafe class Magnitudes
{
    private const int Parts = 32;

    /// <summary>Σⱼ (weight[j] + delta[j])². Sums of four squares are fp32, all else is double: over a row this changes the norm by less
    /// than 1e-8 of it, and never by more than 2e-7.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static double SquaredNorm(ReadOnlySpan<float> weight, ReadOnlySpan<float> delta)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(delta.Length, weight.Length, nameof(delta));
        Vector256<double> low = default, high = default;
        int i = 0;
        fixed (float* w = weight)
        fixed (float* d = delta)
        {
            for (; i <= weight.Length - Parts; i += Parts)
            {
                Vector256<float> four = (Square(w + i, d + i) + Square(w + i + 8, d + i + 8))
                    + (Square(w + i + 16, d + i + 16) + Square(w + i + 24, d + i + 24));
                low += Vector256.WidenLower(four);
                high += Vector256.WidenUpper(four);
            }
        }

        double rest = 0;
        for (; i < weight.Length; i++)
        {
            double value = (double)weight[i] + delta[i];
            rest += value * value;
        }

        Vector256<double> all = low + high;
        return ((all[0] + all[1]) + (all[2] + all[3])) + rest;
    }

    /// <summary>sums[j] += (weight[j] + delta[j])².</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void AddSquares(ReadOnlySpan<float> weight, ReadOnlySpan<float> delta, Span<double> sums)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(delta.Length, weight.Length, nameof(delta));
        ArgumentOutOfRangeException.ThrowIfNotEqual(sums.Length, weight.Length, nameof(sums));
        int i = 0;
        fixed (float* w = weight)
        fixed (float* d = delta)
        fixed (double* s = sums)
        {
            for (; i <= weight.Length - 8; i += 8)
            {
                (Vector256<double> low, Vector256<double> high) = Sums(w + i, d + i);
                (Vector256.Load(s + i) + (low * low)).Store(s + i);
                (Vector256.Load(s + i + 4) + (high * high)).Store(s + i + 4);
            }
        }

        for (; i < weight.Length; i++)
        {
            double value = (double)weight[i] + delta[i];
            sums[i] += value * value;
        }
    }

    /// <summary>delta[j] = factor · (weight[j] + delta[j]) − weight[j], in fp32 with compensated rounding errors, also where weight and
    /// delta nearly cancel: as exact as double, without its conversions.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Rescale(ReadOnlySpan<float> weight, Span<float> delta, double factor)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(delta.Length, weight.Length, nameof(delta));
        (float high, float low) = Split(factor);
        (Vector256<float> highs, Vector256<float> lows) = (Vector256.Create(high), Vector256.Create(low));
        int i = 0;
        fixed (float* w = weight)
        fixed (float* d = delta)
        {
            for (; i <= weight.Length - Vector256<float>.Count; i += Vector256<float>.Count)
            {
                (Vector256<float> own, Vector256<float> added) = (Vector256.Load(w + i), Vector256.Load(d + i));
                Vector256<float> sum = own + added;
                Vector256<float> part = sum - own;
                Vector256<float> lost = (own - (sum - part)) + (added - part);
                (Vector256.FusedMultiplyAdd(highs, sum, -own) + Vector256.FusedMultiplyAdd(lows, sum, highs * lost)).Store(d + i);
            }
        }

        for (; i < weight.Length; i++)
        {
            delta[i] = Rescaled(weight[i], delta[i], high, low);
        }
    }

    public static void Rescale(ReadOnlySpan<float> weight, Span<float> delta, ReadOnlySpan<double> factors)
    {
        for (int i = 0; i < weight.Length; i++)
        {
            (float high, float low) = Split(factors[i]);
            delta[i] = Rescaled(weight[i], delta[i], high, low);
        }
    }

    /// <summary>A double as the sum of two floats.</summary>
    private static (float High, float Low) Split(double value) => ((float)value, (float)(value - (float)value));

    private static float Rescaled(float weight, float delta, float high, float low)
    {
        float sum = weight + delta;
        float part = sum - weight;
        float lost = (weight - (sum - part)) + (delta - part);
        return MathF.FusedMultiplyAdd(high, sum, -weight) + MathF.FusedMultiplyAdd(low, sum, high * lost);
    }

    /// <summary>The squares of eight sums.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Square(float* weight, float* delta)
    {
        Vector256<float> sum = Vector256.Load(weight) + Vector256.Load(delta);
        return sum * sum;
    }

    /// <summary>Eight sums of weight and delta.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector256<double> Low, Vector256<double> High) Sums(float* weight, float* delta)
    {
        (Vector256<double> low, Vector256<double> high) = Vector256.Widen(Vector256.Load(weight));
        (Vector256<double> lowDelta, Vector256<double> highDelta) = Vector256.Widen(Vector256.Load(delta));
        return (low + lowDelta, high + highDelta);
    }
}
