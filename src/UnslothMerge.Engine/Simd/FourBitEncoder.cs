namespace UnslothMerge.Simd;

/// <summary>Quantizes to bitsandbytes' 4-bit formats: flat blocks with one absmax each. A value times 1 / absmax gets the code of its rank
/// among the thresholds, which it must exceed. The thresholds [16] ascend, and the last one is not used; codes are the bits of
/// floats.</summary>
internal sealed unsafe record FourBitEncoder(float[] Thresholds, float[] Values, float[] Codes)
{
    // For each of thirty-one equal parts of -1 … 1: the threshold in it, and the rank of values that do not exceed it. Null if a part has
    // two.
    private readonly float[]? _parts = Parts(Thresholds);

    /// <summary>The smallest divisor of bitsandbytes.</summary>
    private const float SmallestAbsMax = 1e-38f;

    /// <summary>Quantizes finite values, rounded to 16 bits, in blocks of a multiple of 16 elements, the last of which may be short: two
    /// codes a byte, high nibble first, and each block's largest magnitude; that of a short block is at least 1e-38, as in bitsandbytes.
    /// Statistics receive the squares of the values and of the errors. Every width gives the same bits and sums.</summary>
    public void Encode<TFormat>(
        ReadOnlySpan<byte> stored,
        int blockSize,
        Span<byte> packed,
        Span<float> absMax,
        ref TileStatistics statistics,
        SimdWidth? width = null)
        where TFormat : struct, IOutputFormat
    {
        int count = stored.Length / TFormat.Size;
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(blockSize);
        ArgumentOutOfRangeException.ThrowIfNotEqual(blockSize % 16, 0, nameof(blockSize));
        ArgumentOutOfRangeException.ThrowIfNotEqual(packed.Length, (count + 1) / 2, nameof(packed));
        ArgumentOutOfRangeException.ThrowIfNotEqual(absMax.Length, (int)(((long)count + blockSize - 1) / blockSize), nameof(absMax));
        fixed (byte* s = stored)
        fixed (byte* p = packed)
        fixed (float* a = absMax)
        {
            var (values, errors) = (width ?? SimdWidths.Widest) switch
            {
                SimdWidth.Vector512 => Encode<Lanes512, TFormat>(s, count, blockSize, p, a),
                SimdWidth.Vector256 => Encode<Lanes256, TFormat>(s, count, blockSize, p, a),
                _ => Encode<Lanes128, TFormat>(s, count, blockSize, p, a),
            };
            statistics.ValueSquares += values;
            statistics.ErrorSquares += errors;
        }
    }

    private (double Values, double Errors) Encode<T, TFormat>(byte* stored, int count, int blockSize, byte* packed, float* absMax)
        where T : unmanaged, ILanes<T>
        where TFormat : struct, IOutputFormat
    {
        fixed (float* t = Thresholds)
        fixed (float* v = Values)
        fixed (float* c = Codes)
        {
            int whole = count / blockSize;
            T* squares = stackalloc T[] { T.Broadcast(0), T.Broadcast(0) };
            if (T.HasWideTables && _parts is not null)
            {
                fixed (float* p = _parts)
                {
                    Blocks<T, TFormat, ByParts>(stored, whole, blockSize, blockSize, packed, absMax, p, v, c, squares);
                }
            }
            else
            {
                Blocks<T, TFormat, ByHalves>(stored, whole, blockSize, blockSize, packed, absMax, t, v, c, squares);
            }

            int rest = count % blockSize;
            if (rest > 0)
            {
                Rest<T, TFormat>(
                    stored + ((nint)whole * blockSize * TFormat.Size), rest, packed + ((nint)whole * blockSize / 2), absMax + whole, t, v,
                    c, squares);
            }

            return (Combine.Fold((float*)squares), Combine.Fold((float*)(squares + 1)));
        }
    }

    /// <summary>A short block, in a buffer filled up with zeros: they neither raise its absmax nor add an error.</summary>
    private static void Rest<T, TFormat>(
        byte* stored, int count, byte* packed, float* absMax, float* thresholds, float* values, float* codes, T* squares)
        where T : unmanaged, ILanes<T>
        where TFormat : struct, IOutputFormat
    {
        int padded = (count + 15) & -ILanes<T>.Count;
        byte* whole = stackalloc byte[padded * TFormat.Size];
        byte* wholePacked = stackalloc byte[padded / 2];
        Unsafe.InitBlockUnaligned(whole, 0, (uint)(padded * TFormat.Size));
        Unsafe.CopyBlockUnaligned(whole, stored, (uint)(count * TFormat.Size));
        Blocks<T, TFormat, ByHalves>(whole, 1, padded, 0, wholePacked, absMax, thresholds, values, codes, squares);
        if (count % 2 == 1)
        {
            wholePacked[count / 2] &= 0xF0;
        }

        Unsafe.CopyBlockUnaligned(packed, wholePacked, (uint)(count + 1) / 2);
    }

    /// <summary>The loop, alone in its method: near a call the JIT would keep vectors in memory. Only blocks of the full size keep an
    /// absmax below 1e-38.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Blocks<T, TFormat, TSearch>(
        byte* stored,
        int blocks,
        int size,
        int fullSize,
        byte* packed,
        float* absMax,
        float* tables,
        float* values,
        float* codes,
        T* squares)
        where T : unmanaged, ILanes<T>
        where TFormat : struct, IOutputFormat
        where TSearch : struct, ISearch
    {
        T valueSquares = squares[0];
        T errorSquares = squares[1];
        for (int b = 0; b < blocks; b++)
        {
            T lanes = T.Broadcast(0);
            for (int i = 0; i < size; i += ILanes<T>.Count)
            {
                lanes = T.MaxBits(lanes, Rounding.Magnitude(TFormat.Load<T>(stored + (i * TFormat.Size))));
            }

            // A copy, because what has an address is not kept in a register.
            T magnitudes = lanes;
            float largest = LaneMaximum.Of((uint*)&magnitudes);
            float clamped = Math.Max(largest, SmallestAbsMax);
            absMax[b] = size == fullSize ? largest : clamped;
            T inverse = T.Broadcast(1 / clamped);
            T scale = T.Broadcast(absMax[b]);
            for (int i = 0; i < size; i += ILanes<T>.Count)
            {
                T value = TFormat.Load<T>(stored);
                T x = T.Multiply(value, inverse);
                T rank = TSearch.Rank(x, tables);
                T error = T.Subtract(value, T.Multiply(T.LookUp(rank, values), scale));
                valueSquares = T.FusedMultiplyAdd(value, value, valueSquares);
                errorSquares = T.FusedMultiplyAdd(error, error, errorSquares);
                Unsafe.WriteUnaligned(packed, Nibbles.Pack(T.LookUp(rank, codes)));
                stored += ILanes<T>.Count * TFormat.Size;
                packed += ILanes<T>.Count / 2;
            }
        }

        squares[0] = valueSquares;
        squares[1] = errorSquares;
    }

    private static float[]? Parts(float[] thresholds)
    {
        var tables = new float[64];
        tables.AsSpan(0, 32).Fill(float.PositiveInfinity);
        foreach (float threshold in thresholds.Where(float.IsFinite))
        {
            int part = (int)(BitConverter.SingleToUInt32Bits(ByParts.PartOf(threshold)) & 31);
            if (!float.IsPositiveInfinity(tables[part]))
            {
                return null;
            }

            tables[part] = threshold;
        }

        uint rank = 0;
        for (int part = 0; part < 32; part++)
        {
            tables[32 + part] = BitConverter.UInt32BitsToSingle(rank);
            rank += float.IsFinite(tables[part]) ? 1u : 0;
        }

        return tables;
    }

    /// <summary>The number of thresholds that a value exceeds; a type, so that the JIT compiles the loop for it.</summary>
    private interface ISearch
    {
        static abstract T Rank<T>(T x, float* tables)
            where T : unmanaged, ILanes<T>;
    }

    /// <summary>A binary search in every lane. The tables are the thresholds.</summary>
    private readonly struct ByHalves : ISearch
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static T Rank<T>(T x, float* tables)
            where T : unmanaged, ILanes<T>
        {
            T rank = Step(x, T.Broadcast(tables[7]), 8);
            rank = T.OrBits(rank, Step(x, T.LookUp(T.OrBits(rank, T.BroadcastBits(3)), tables), 4));
            rank = T.OrBits(rank, Step(x, T.LookUp(T.OrBits(rank, T.BroadcastBits(1)), tables), 2));
            return T.OrBits(rank, Step(x, T.LookUp(rank, tables), 1));
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static T Step<T>(T x, T threshold, uint step)
            where T : unmanaged, ILanes<T> => T.AndBits(T.GreaterThan(x, threshold), T.BroadcastBits(step));
    }

    /// <summary>One comparison, with the only threshold in the value's part of -1 … 1. Parts ascend with the value, however it is rounded:
    /// so it exceeds all thresholds in lower parts, and none in higher ones.</summary>
    private readonly struct ByParts : ISearch
    {
        // 15x, rounded, in the lowest bits of a float so large that it has no others.
        private const float HalfParts = 15;
        private const float Integers = (1 << 23) + 16;

        public static float PartOf(float x) => MathF.FusedMultiplyAdd(x, HalfParts, Integers);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static T Rank<T>(T x, float* tables)
            where T : unmanaged, ILanes<T>
        {
            T part = T.FusedMultiplyAdd(x, T.Broadcast(HalfParts), T.Broadcast(Integers));
            T exceeds = T.GreaterThan(x, T.LookUpWide(part, tables));
            return T.SubtractBits(T.LookUpWide(part, tables + 32), exceeds);
        }
    }
}
