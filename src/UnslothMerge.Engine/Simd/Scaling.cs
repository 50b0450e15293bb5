namespace UnslothMerge.Simd;

/// <summary>Products with a factor that fp32 cannot hold.</summary>
internal static unsafe class Scaling
{
    /// <summary>values[i] = (float)(values[i] · factor), multiplied in double and rounded once.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Multiply(Span<float> values, double factor)
    {
        int i = 0;
        fixed (float* v = values)
        {
            for (; i <= values.Length - Vector256<float>.Count; i += Vector256<float>.Count)
            {
                (Vector256<double> low, Vector256<double> high) = Vector256.Widen(Vector256.Load(v + i));
                Vector256.Narrow(low * factor, high * factor).Store(v + i);
            }
        }

        for (; i < values.Length; i++)
        {
            values[i] = (float)(values[i] * factor);
        }
    }
}
