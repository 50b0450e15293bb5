namespace UnslothMerge.Simd;

/// <summary>The product of the two LoRA matrices, added into a plane of deltas.</summary>
internal static unsafe class LoraKernel
{
    /// <summary>The most rows that the micro-kernel is written for.</summary>
    private const int MaximumRows = 8;

    /// <summary>delta[i, j] += Σₖ left[i, k] · right[k, j]. Each sum starts at zero and takes its terms in ascending k, one fused
    /// multiply-add each, then is added to delta once: the same bits on every width, whatever the size of the region. Left [rows, rank] has
    /// the scaling in it; right is the panels of the region's columns, [columns / <see cref="LoraPanels.Width"/> rounded up, rank,
    /// Width].</summary>
    public static void Accumulate(
        ReadOnlySpan<float> left, ReadOnlySpan<float> right, Span<float> delta, int rows, int columns, int rank, int deltaStride) =>
        Run(left, right, delta, rows, columns, rank, deltaStride, assign: false, SimdWidths.Widest);

    /// <summary><see cref="Accumulate"/> into a delta of zeros, whatever it holds: at rank 16 clearing it would take a tenth of the
    /// time.</summary>
    public static void Assign(
        ReadOnlySpan<float> left, ReadOnlySpan<float> right, Span<float> delta, int rows, int columns, int rank, int deltaStride) =>
        Run(left, right, delta, rows, columns, rank, deltaStride, assign: true, SimdWidths.Widest);

    /// <summary>Runs with a given width; every width gives the same bits.</summary>
    internal static void Run(
        ReadOnlySpan<float> left,
        ReadOnlySpan<float> right,
        Span<float> delta,
        int rows,
        int columns,
        int rank,
        int deltaStride,
        bool assign,
        SimdWidth width)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(rows);
        ArgumentOutOfRangeException.ThrowIfNegative(columns);
        ArgumentOutOfRangeException.ThrowIfNegative(rank);
        ArgumentOutOfRangeException.ThrowIfLessThan(deltaStride, columns);
        ArgumentOutOfRangeException.ThrowIfLessThan(left.Length, (long)rows * rank, nameof(left));
        ArgumentOutOfRangeException.ThrowIfLessThan(right.Length, LoraPanels.Length(rank, columns), nameof(right));
        if (rows == 0 || columns == 0)
        {
            return;
        }

        ArgumentOutOfRangeException.ThrowIfLessThan(delta.Length, ((rows - 1L) * deltaStride) + columns, nameof(delta));
        fixed (float* l = left)
        fixed (float* r = right)
        fixed (float* d = delta)
        {
            switch (width)
            {
                case SimdWidth.Vector512: Region<Lanes512>(l, r, d, rows, columns, rank, deltaStride, assign); break;
                case SimdWidth.Vector256: Region<Lanes256>(l, r, d, rows, columns, rank, deltaStride, assign); break;
                default: Region<Lanes128>(l, r, d, rows, columns, rank, deltaStride, assign); break;
            }
        }
    }

    private static void Region<T>(float* left, float* right, float* delta, int rows, int columns, int rank, int deltaStride, bool assign)
        where T : unmanaged, ILanes<T>
    {
        int step = T.LoraGroups * ILanes<T>.Count;
        for (int column = 0; column < columns; column += step)
        {
            // The columns outside, so that a panel stays in L1 while all rows pass.
            int panel = column / LoraPanels.Width;
            float* source = right + ((nint)panel * LoraPanels.Width * rank) + (column % LoraPanels.Width);
            if (columns - column >= step)
            {
                Rows<T>(left, source, delta + column, rows, rank, deltaStride, assign);
            }
            else
            {
                RaggedRows<T>(left, source, delta + column, rows, columns - column, rank, deltaStride, assign);
            }
        }
    }

    /// <summary>All rows of the columns of one micro-kernel, in the largest blocks that fit.</summary>
    private static void Rows<T>(float* left, float* right, float* delta, int rows, int rank, nint deltaStride, bool assign)
        where T : unmanaged, ILanes<T>
    {
        while (rows > 0)
        {
            int block = RowBlock<T>(rows);
            Block<T>(block, left, right, delta, rank, deltaStride, assign);
            left += (nint)block * rank;
            delta += block * deltaStride;
            rows -= block;
        }
    }

    /// <summary>The last columns, through a buffer as wide as the micro-kernel.</summary>
    private static void RaggedRows<T>(
        float* left, float* right, float* delta, int rows, int columns, int rank, nint deltaStride, bool assign)
        where T : unmanaged, ILanes<T>
    {
        float* buffer = stackalloc float[LoraPanels.Width * MaximumRows];
        uint bytes = (uint)columns * sizeof(float);
        while (rows > 0)
        {
            int block = RowBlock<T>(rows);
            for (int row = 0; row < block; row++)
            {
                Unsafe.CopyBlockUnaligned(buffer + (row * LoraPanels.Width), delta + (row * deltaStride), bytes);
            }

            Block<T>(block, left, right, buffer, rank, LoraPanels.Width, assign);
            for (int row = 0; row < block; row++)
            {
                Unsafe.CopyBlockUnaligned(delta + (row * deltaStride), buffer + (row * LoraPanels.Width), bytes);
            }

            left += (nint)block * rank;
            delta += block * deltaStride;
            rows -= block;
        }
    }

    private static int RowBlock<T>(int rows)
        where T : unmanaged, ILanes<T> =>
        rows >= T.LoraRows ? T.LoraRows
        : rows >= 4 ? 4
        : rows >= 2 ? 2
        : 1;

    private static void Block<T>(int rows, float* left, float* right, float* delta, int rank, nint deltaStride, bool assign)
        where T : unmanaged, ILanes<T>
    {
        switch (rows)
        {
            case 8: MicroKernel<T, Rows8>(left, right, delta, rank, deltaStride, assign); break;
            case 6: MicroKernel<T, Rows6>(left, right, delta, rank, deltaStride, assign); break;
            case 4: MicroKernel<T, Rows4>(left, right, delta, rank, deltaStride, assign); break;
            case 2: MicroKernel<T, Rows2>(left, right, delta, rank, deltaStride, assign); break;
            default: MicroKernel<T, Rows1>(left, right, delta, rank, deltaStride, assign); break;
        }
    }

    /// <summary>TRows rows × T.LoraGroups groups of sixteen columns, all sums in registers over the whole rank. Both counts are constants
    /// for the JIT, which drops the rows and groups that are not used.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void MicroKernel<T, TRows>(float* left, float* right, float* delta, int rank, nint deltaStride, bool assign)
        where T : unmanaged, ILanes<T>
        where TRows : struct, IRowCount
    {
        T sum0a = T.Broadcast(0), sum0b = T.Broadcast(0), sum1a = T.Broadcast(0), sum1b = T.Broadcast(0);
        T sum2a = T.Broadcast(0), sum2b = T.Broadcast(0), sum3a = T.Broadcast(0), sum3b = T.Broadcast(0);
        T sum4a = T.Broadcast(0), sum4b = T.Broadcast(0), sum5a = T.Broadcast(0), sum5b = T.Broadcast(0);
        T sum6a = T.Broadcast(0), sum6b = T.Broadcast(0), sum7a = T.Broadcast(0), sum7b = T.Broadcast(0);

        // Two pointers and three strides address eight rows; eight pointers would leave no registers for the rest.
        nint stride = rank;
        float* first = left;
        float* second = left + (4 * stride);
        for (int k = 0; k < rank; k++)
        {
            T a = T.Load(right);
            T b = T.LoraGroups > 1 ? T.Load(right + ILanes<T>.Count) : a;
            MultiplyAdd<T, TRows>(0, first, a, b, ref sum0a, ref sum0b);
            MultiplyAdd<T, TRows>(1, first + stride, a, b, ref sum1a, ref sum1b);
            MultiplyAdd<T, TRows>(2, first + (2 * stride), a, b, ref sum2a, ref sum2b);
            MultiplyAdd<T, TRows>(3, first + (3 * stride), a, b, ref sum3a, ref sum3b);
            MultiplyAdd<T, TRows>(4, second, a, b, ref sum4a, ref sum4b);
            MultiplyAdd<T, TRows>(5, second + stride, a, b, ref sum5a, ref sum5b);
            MultiplyAdd<T, TRows>(6, second + (2 * stride), a, b, ref sum6a, ref sum6b);
            MultiplyAdd<T, TRows>(7, second + (3 * stride), a, b, ref sum7a, ref sum7b);
            right += LoraPanels.Width;
            first++;
            second++;
        }

        AddRow<T, TRows>(0, delta, sum0a, sum0b, assign);
        AddRow<T, TRows>(1, delta + (1 * deltaStride), sum1a, sum1b, assign);
        AddRow<T, TRows>(2, delta + (2 * deltaStride), sum2a, sum2b, assign);
        AddRow<T, TRows>(3, delta + (3 * deltaStride), sum3a, sum3b, assign);
        AddRow<T, TRows>(4, delta + (4 * deltaStride), sum4a, sum4b, assign);
        AddRow<T, TRows>(5, delta + (5 * deltaStride), sum5a, sum5b, assign);
        AddRow<T, TRows>(6, delta + (6 * deltaStride), sum6a, sum6b, assign);
        AddRow<T, TRows>(7, delta + (7 * deltaStride), sum7a, sum7b, assign);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void MultiplyAdd<T, TRows>(int row, float* left, T a, T b, ref T sumA, ref T sumB)
        where T : unmanaged, ILanes<T>
        where TRows : struct, IRowCount
    {
        if (TRows.Value > row)
        {
            T factor = T.Broadcast(*left);
            sumA = T.FusedMultiplyAdd(factor, a, sumA);
            if (T.LoraGroups > 1)
            {
                sumB = T.FusedMultiplyAdd(factor, b, sumB);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddRow<T, TRows>(int row, float* delta, T a, T b, bool assign)
        where T : unmanaged, ILanes<T>
        where TRows : struct, IRowCount
    {
        if (TRows.Value > row)
        {
            // Even an assigned sum is added to zero, lest a negative zero come out that an accumulated one would not be.
            T.Store(T.Add(assign ? T.Broadcast(0) : T.Load(delta), a), delta);
            if (T.LoraGroups > 1)
            {
                delta += ILanes<T>.Count;
                T.Store(T.Add(assign ? T.Broadcast(0) : T.Load(delta), b), delta);
            }
        }
    }

    /// <summary>A number of rows as a type, so that the JIT compiles a micro-kernel for it.</summary>
    private interface IRowCount
    {
        static abstract int Value { get; }
    }

    private readonly struct Rows1 : IRowCount { public static int Value => 1; }

    private readonly struct Rows2 : IRowCount { public static int Value => 2; }

    private readonly struct Rows4 : IRowCount { public static int Value => 4; }

    private readonly struct Rows6 : IRowCount { public static int Value => 6; }

    private readonly struct Rows8 : IRowCount { public static int Value => 8; }
}
