namespace UnslothMerge.Simd;

/// <summary>The kernels that nearly every merge needs.</summary>
internal static class Kernels
{
    private static int _begun;

    /// <summary>Lets the runtime compile them while the caller goes on: no image can hold them ready, because they are made for the
    /// processor at hand, and the first workers would wait for them.</summary>
    public static void Prepare()
    {
        if (Interlocked.Exchange(ref _begun, 1) == 0)
        {
            ThreadPool.UnsafeQueueUserWorkItem(_ => Run(), null);
        }
    }

    // One tile of rank one, all of it zeros.
    private static void Run()
    {
        const int Rows = 8, Columns = LoraPanels.Width;
        Span<float> delta = stackalloc float[Rows * Columns];
        Span<byte> stored = stackalloc byte[Rows * Columns * sizeof(ushort)];
        TileStatistics statistics = default;
        stored.Clear();
        LoraKernel.Assign(new float[Rows], new float[Columns], delta, Rows, Columns, rank: 1, Columns);
        Combine.Rows<BFloat16Format, BFloat16Format>(stored, delta, stored, Rows, Columns, Columns, Columns, ref statistics);
        Scaling.Multiply(delta, 1);
    }
}
