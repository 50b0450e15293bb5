namespace UnslothMerge.Adapters.Numerics;

/// <summary>The beginning of <c>torch.normal(0, 1, size)</c> on the CPU, near enough to be recognised: torch's own vector code differs in
/// the last bits. Source: ATen, <c>normal_fill</c> and <c>normal_distribution</c>.</summary>
internal static class RandomNormals
{
    private const int Group = 16;

    /// <summary>The first values of a tensor of a size: at most 16, as many as are certain. With float64 as torch's default dtype the
    /// generator draws more bits.</summary>
    public static double[] First(long seed, long size, bool inDouble)
    {
        var generator = new MersenneTwister(seed);
        return size < Group
            ? Pairs(generator, (int)size)
            : Filled(generator, inDouble)[..(int)(size % Group == 0 ? Group : Math.Min(Group, size - Group))];
    }

    // Box and Muller over groups of sixteen uniform numbers: eight radii, then eight angles. The last, incomplete group is drawn anew.
    private static double[] Filled(MersenneTwister generator, bool inDouble)
    {
        var uniform = new double[Group];
        for (var i = 0; i < Group; i++)
        {
            uniform[i] = inDouble ? Uniform(generator) : (generator.Next32() & 0xffffff) / (double)(1 << 24);
        }

        var values = new double[Group];
        for (var i = 0; i < Group / 2; i++)
        {
            var radius = Math.Sqrt(-2 * Math.Log(1 - uniform[i]));
            var (sin, cos) = Math.SinCos(2 * Math.PI * uniform[i + (Group / 2)]);
            values[i] = radius * cos;
            values[i + (Group / 2)] = radius * sin;
        }

        return values;
    }

    private static double[] Pairs(MersenneTwister generator, int count)
    {
        var values = new double[count];
        for (var i = 0; i < count; i += 2)
        {
            var angle = 2 * Math.PI * Uniform(generator);
            var radius = Math.Sqrt(-2 * Math.Log(1 - Uniform(generator)));
            values[i] = radius * Math.Cos(angle);
            if (i + 1 < count)
            {
                values[i + 1] = radius * Math.Sin(angle);
            }
        }

        return values;
    }

    private static double Uniform(MersenneTwister generator) => (generator.Next64() & ((1UL << 53) - 1)) / (double)(1UL << 53);
}
