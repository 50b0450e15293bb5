namespace UnslothMerge.Tests.Combining;

/// <summary>The combinations as the papers write them: whole tensors, in double.</summary>
internal static class CombinationReference
{
    public static double[] Combine(CombinationType type, double density, int seed, string tensor,
        IReadOnlyList<(double Weight, double[] Values)> deltas)
    {
        var thinned = deltas.Select((d, adapter) => type switch
        {
            CombinationType.Ties or CombinationType.MagnitudePrune => Largest(d.Values, density),
            CombinationType.DareLinear or CombinationType.DareTies =>
                Dropped(d.Values, density, Mask(seed, tensor, adapter, density, d.Values.Length)),
            _ => d.Values,
        }).ToList();

        var result = new double[deltas[0].Values.Length];
        for (var i = 0; i < result.Length; i++)
        {
            var weighted = thinned.Select((v, adapter) => deltas[adapter].Weight * v[i]).ToList();
            var sign = weighted.Sum() >= 0 ? 1 : -1;
            var agreeing = weighted.Select((v, adapter) => (Value: v, deltas[adapter].Weight)).Where(v => Math.Sign(v.Value) == sign)
                .ToList();
            var weights = agreeing.Sum(v => v.Weight);
            result[i] = type switch
            {
                CombinationType.Ties => agreeing.Sum(v => v.Value) / (weights == 0 ? 1 : weights),
                CombinationType.DareTies => agreeing.Sum(v => v.Value),
                _ => weighted.Sum(),
            };
        }

        return result;
    }

    public static bool[] Mask(int seed, string tensor, int adapter, double density, int count)
    {
        var ones = Enumerable.Repeat(1f, count).ToArray();
        new RandomMask(seed, tensor, adapter, density).Apply(0, ones);
        return Array.ConvertAll(ones, v => v == 1);
    }

    private static double[] Largest(double[] values, double density)
    {
        var kept = values.Select((v, i) => (Size: Math.Abs(v), Index: i)).OrderByDescending(p => p.Size).ThenBy(p => p.Index)
            .Take((int)(density * values.Length)).Select(p => p.Index).ToHashSet();
        return [.. values.Select((v, i) => kept.Contains(i) ? v : 0)];
    }

    private static double[] Dropped(double[] values, double density, bool[] mask) =>
        [.. values.Select((v, i) => mask[i] ? v / density : 0)];
}
