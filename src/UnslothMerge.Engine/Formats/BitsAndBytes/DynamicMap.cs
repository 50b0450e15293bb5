namespace UnslothMerge.Formats.BitsAndBytes;

/// <summary>bitsandbytes' signed dynamic 8-bit map, in which double quantization stores absmax values: 256 values in ascending order, zero
/// at 127, ever finer towards zero. Source: 8-bit optimizers (arXiv 2110.02861); bitsandbytes 0.50, <c>create_dynamic_map</c>.</summary>
internal static class DynamicMap
{
    /// <summary>Floats that have their sign, their exponent and the first six bits of their fraction in common share a cell, and no cell
    /// has two midpoints.</summary>
    private const int CellBits = 17;

    private static readonly float[] Map = Create();

    // The midpoint above each value. A number is nearer to the next value if it is greater.
    private static readonly float[] Midpoints = [.. Map.Zip(Map.Skip(1), Midpoint), float.PositiveInfinity];

    // The value that is nearest to the lowest number of each cell.
    private static readonly byte[] Cells =
        [.. Enumerable.Range(0, 1 << (32 - CellBits)).Select(c => (byte)Array.FindIndex(Midpoints, m => !(LowestOf((uint)c) > m)))];

    public static ReadOnlySpan<float> Values => Map;

    /// <summary>The indices of the values that are nearest to (number − offset) · scale; of two, the lower one.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Encode(ReadOnlySpan<float> numbers, float offset, float scale, Span<byte> codes)
    {
        var (midpoints, cells) = (Midpoints, Cells);
        for (var i = 0; i < numbers.Length; i++)
        {
            var number = (numbers[i] - offset) * scale;
            int code = cells[BitConverter.SingleToUInt32Bits(number) >> CellBits];
            codes[i] = (byte)(code + (number > midpoints[code] ? 1 : 0));
        }
    }

    // The largest float that is not beyond the middle.
    private static float Midpoint(float low, float high)
    {
        var middle = ((double)low + high) / 2;
        return (float)middle > middle ? MathF.BitDecrement((float)middle) : (float)middle;
    }

    // The lowest number in a cell: of the negative ones, that of the largest magnitude.
    private static float LowestOf(uint cell)
    {
        var first = cell << CellBits;
        return BitConverter.UInt32BitsToSingle(first >> 31 == 0 ? first : first | ((1u << CellBits) - 1));
    }

    private static float[] Create()
    {
        const int decades = 7;
        var values = new List<float> { 0, 1 };
        for (var decade = 0; decade < decades; decade++)
        {
            // The means of neighbours of evenly spaced boundaries from 0.1 to 1, then scaled to the decade.
            var boundaries = Linspace(0.1f, 1, (1 << decade) + 1);
            for (var i = 0; i + 1 < boundaries.Length; i++)
            {
                var value = (float)Math.Pow(10, decade - (decades - 1)) * ((boundaries[i] + boundaries[i + 1]) / 2f);
                values.Add(value);
                values.Add(-value);
            }
        }

        values.Sort();
        return [.. values];
    }

    // As torch.linspace does it in fp32: from both ends towards the middle, with fused multiply-adds.
    private static float[] Linspace(float start, float end, int count)
    {
        var step = (end - start) / (count - 1);
        var values = new float[count];
        for (var i = 0; i < count; i++)
        {
            values[i] = i < count / 2 ? MathF.FusedMultiplyAdd(step, i, start) : MathF.FusedMultiplyAdd(-step, count - i - 1, end);
        }

        return values;
    }
}
