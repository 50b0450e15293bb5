namespace UnslothMerge.Simd;

/// <summary>Codes of a transposed weight: neighbours belong to different rows of the weight.</summary>
internal unsafe interface ITransposedCodes
{
    /// <summary>The values of sixteen rows in one column; the first row is a multiple of sixteen.</summary>
    T Load<T>(int row, int column)
        where T : unmanaged, ILanes<T>;
}

/// <summary>Decodes a rectangle in blocks of sixteen rows and columns, each decoded column by column and then transposed in L1.</summary>
internal static unsafe class TransposedCodes
{
    private const int Side = ILanes<Lanes512>.Count;

    /// <summary>(code − zero) · scale, with zeros and scales [groups, stride]; groups has the group of each column, the stride is the rows,
    /// rounded up to a multiple of sixteen. GPTQ packs words [⌈all columns · bits / 32⌉, stride] along the columns of the weight; a code
    /// may cross into the next word. AWQ packs words [all columns, stride / 8] of eight 4-bit codes along the rows, in an order of its
    /// own.</summary>
    public static void DecodeWords(
        ReadOnlySpan<byte> words,
        int bits,
        bool alongColumns,
        ReadOnlySpan<int> groups,
        ReadOnlySpan<float> zeros,
        ReadOnlySpan<float> scales,
        int stride,
        Part part,
        Span<float> values,
        SimdWidth? width = null)
    {
        long columns = (long)part.Column + part.Columns;
        ArgumentOutOfRangeException.ThrowIfLessThan(
            words.Length, alongColumns ? ((columns * bits) + 31) / 32 * stride * sizeof(uint) : columns * stride / 2, nameof(words));
        Check(groups, zeros, scales, stride, part);
        fixed (byte* w = words)
        fixed (int* g = groups)
        fixed (float* z = zeros)
        fixed (float* s = scales)
        {
            if (alongColumns)
            {
                Decode(new GptqCodes(w, g, z, s, stride, bits), part, values, width);
            }
            else
            {
                Decode(new AwqCodes(w, g, z, s, stride), part, values, width);
            }
        }
    }

    /// <summary>MXFP4 as gpt-oss stores it: blocks [all columns, groups, 16] of 32 FP4 codes along the rows of the weight, one column after
    /// the other. code · 2^(scale − 127), with scales [all columns, groups] in E8M0.</summary>
    public static void DecodeMxFp4(
        ReadOnlySpan<byte> blocks, ReadOnlySpan<byte> scales, int groups, Part part, Span<float> values, SimdWidth? width = null)
    {
        long all = ((long)part.Column + part.Columns) * groups;
        ArgumentOutOfRangeException.ThrowIfLessThan(blocks.Length, all * 16, nameof(blocks));
        ArgumentOutOfRangeException.ThrowIfLessThan(scales.Length, all, nameof(scales));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(part.Row + part.Rows, groups * 32, nameof(part));
        fixed (byte* b = blocks)
        fixed (byte* s = scales)
        {
            Decode(new MxFp4Codes(b, s, groups), part, values, width);
        }
    }

    private static void Check(ReadOnlySpan<int> groups, ReadOnlySpan<float> zeros, ReadOnlySpan<float> scales, int stride, Part part)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(stride % Side, 0, nameof(stride));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(part.Row + part.Rows, stride, nameof(part));
        ArgumentOutOfRangeException.ThrowIfNotEqual(zeros.Length, scales.Length, nameof(zeros));
        groups = groups.Slice(part.Column, part.Columns);
        if (!groups.IsEmpty)
        {
            ArgumentOutOfRangeException.ThrowIfNegative(TensorPrimitives.Min(groups), nameof(groups));
            ArgumentOutOfRangeException.ThrowIfLessThan(scales.Length, ((long)TensorPrimitives.Max(groups) + 1) * stride, nameof(scales));
        }
    }

    private static void Decode<TCodes>(TCodes codes, Part part, Span<float> values, SimdWidth? width)
        where TCodes : struct, ITransposedCodes
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(values.Length, (long)part.Rows * part.Columns, nameof(values));
        fixed (float* v = values)
        {
            switch (width ?? SimdWidths.Widest)
            {
                case SimdWidth.Vector512: Decode<Lanes512, TCodes>(codes, part.Row, part.Rows, part.Column, part.Columns, v); break;
                case SimdWidth.Vector256: Decode<Lanes256, TCodes>(codes, part.Row, part.Rows, part.Column, part.Columns, v); break;
                default: Decode<Lanes128, TCodes>(codes, part.Row, part.Rows, part.Column, part.Columns, v); break;
            }
        }
    }

    [SkipLocalsInit]
    private static void Decode<T, TCodes>(TCodes codes, int row, int rows, int column, int columns, float* values)
        where T : unmanaged, ILanes<T>
        where TCodes : struct, ITransposedCodes
    {
        float* block = stackalloc float[Side * Side];
        float* part = stackalloc float[Side * Side];
        int end = row + rows;
        for (int first = row / Side * Side; first < end; first += Side)
        {
            int offset = Math.Max(0, row - first);
            int height = Math.Min(Side, end - first) - offset;
            float* destination = values + ((nint)(first + offset - row) * columns);
            for (int c = 0; c < columns; c += Side)
            {
                int width = Math.Min(Side, columns - c);
                Columns<T, TCodes>(codes, first, column + c, width, block);
                if (height == Side && width == Side)
                {
                    Transposition.Sixteen(block, destination + c, columns);
                    continue;
                }

                Transposition.Sixteen(block, part, Side);
                for (int r = 0; r < height; r++)
                {
                    Unsafe.CopyBlockUnaligned(
                        destination + ((nint)r * columns) + c, part + ((offset + r) * Side), (uint)width * sizeof(float));
                }
            }
        }
    }

    /// <summary>The loop itself, alone in its method: near a call the JIT would keep vectors in memory.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Columns<T, TCodes>(TCodes codes, int row, int column, int count, float* block)
        where T : unmanaged, ILanes<T>
        where TCodes : struct, ITransposedCodes
    {
        for (int c = 0; c < count; c++)
        {
            T.Store(codes.Load<T>(row, column + c), block + (c * Side));
        }
    }

    /// <summary>A rectangle of a weight.</summary>
    internal readonly record struct Part(int Row, int Rows, int Column, int Columns);

    private readonly struct GptqCodes(byte* words, int* groups, float* zeros, float* scales, int stride, int bits) : ITransposedCodes
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public T Load<T>(int row, int column)
            where T : unmanaged, ILanes<T>
        {
            long bit = (long)column * bits;
            int shift = (int)(bit % 32);
            float* word = (float*)words + ((nint)(bit / 32) * stride) + row;
            T codes = T.ShiftRightBits(T.Load(word), shift);
            if (shift + bits > 32)
            {
                codes = T.OrBits(codes, T.ShiftLeftBits(T.Load(word + stride), 32 - shift));
            }

            codes = T.AndBits(codes, T.BroadcastBits((1u << bits) - 1));
            nint at = ((nint)groups[column] * stride) + row;
            return T.Multiply(T.Subtract(Integers.ToSingle(codes, T.Broadcast(Integers.Zero)), T.Load(zeros + at)), T.Load(scales + at));
        }
    }

    private readonly struct AwqCodes(byte* words, int* groups, float* zeros, float* scales, int stride) : ITransposedCodes
    {
        private static ReadOnlySpan<float> Values => [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public T Load<T>(int row, int column)
            where T : unmanaged, ILanes<T>
        {
            ulong codes = Nibbles.FromAwq(Unsafe.ReadUnaligned<ulong>(words + ((((nint)column * stride) + row) / 2)));
            nint at = ((nint)groups[column] * stride) + row;
            return T.Multiply(T.Subtract(T.LookUpNibbles(codes, Nibbles.Table(Values)), T.Load(zeros + at)), T.Load(scales + at));
        }
    }

    private readonly struct MxFp4Codes(byte* blocks, byte* scales, int groups) : ITransposedCodes
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public T Load<T>(int row, int column)
            where T : unmanaged, ILanes<T>
        {
            nint block = ((nint)column * groups) + (row / 32);
            ulong codes = Nibbles.Swap(Unsafe.ReadUnaligned<ulong>(blocks + (block * 16) + (row % 32 / 2)));
            return T.Multiply(T.LookUpNibbles(codes, Nibbles.Table(E2M1Codes.Values)), T.Broadcast(PowersOfTwo.Of(scales[block])));
        }
    }
}
