namespace UnslothMerge.Formats.BitsAndBytes;

/// <summary>
/// bitsandbytes' signed dynamic 8-bit map, in which double quantization stores absmax values: 256 values in ascending order, zero at 127,
/// ever finer towards zero. Source: 8-bit optimizers (arXiv 2110.02861); bitsandbytes 0.50, <c>create_dynamic_map</c>.
/// </summary>
internal static class DynamicMap
{
    /// <summary>The values.</summary>
    public static IReadOnlyList<float> Values { get; } = Create();

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
