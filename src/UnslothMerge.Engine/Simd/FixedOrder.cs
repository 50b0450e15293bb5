namespace UnslothMerge.Simd;

/// <summary>Sums of products in an order that does not depend on the processor's vectors, so that every machine gets the same
/// bits.</summary>
internal static class FixedOrder
{
    private const int Lanes = 4;
    private const int Step = 4 * Lanes;

    /// <summary>Σ a[i]·b[i]: sixteen partial sums, each of every sixteenth product, added pairwise at the end, then what is left of the
    /// last sixteen.</summary>
    public static double Dot(ReadOnlySpan<double> a, ReadOnlySpan<double> b)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(b.Length, a.Length, nameof(b));
        ref var x = ref MemoryMarshal.GetReference(a);
        ref var y = ref MemoryMarshal.GetReference(b);
        Vector256<double> s0 = default, s1 = default, s2 = default, s3 = default;
        var i = 0;
        for (; i <= a.Length - Step; i += Step)
        {
            var at = (nuint)i;
            s0 += Vector256.LoadUnsafe(ref x, at) * Vector256.LoadUnsafe(ref y, at);
            s1 += Vector256.LoadUnsafe(ref x, at + Lanes) * Vector256.LoadUnsafe(ref y, at + Lanes);
            s2 += Vector256.LoadUnsafe(ref x, at + (2 * Lanes)) * Vector256.LoadUnsafe(ref y, at + (2 * Lanes));
            s3 += Vector256.LoadUnsafe(ref x, at + (3 * Lanes)) * Vector256.LoadUnsafe(ref y, at + (3 * Lanes));
        }

        var all = (s0 + s1) + (s2 + s3);
        var sum = (all[0] + all[1]) + (all[2] + all[3]);
        for (; i < a.Length; i++)
        {
            sum += a[i] * b[i];
        }

        return sum;
    }

    /// <summary>√Σ a[i]².</summary>
    public static double Norm(ReadOnlySpan<double> a) => Math.Sqrt(Dot(a, a));
}
