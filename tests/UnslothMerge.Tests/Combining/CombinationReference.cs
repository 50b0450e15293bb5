namespace UnslothMerge.Tests.Combining;

/// <summary>The combinations as the papers write them: those of Test-MergedModel, whole tensors in double.</summary>
internal static class CombinationReference
{
    public static double[] Combine(CombinationType type, double density, int seed, string tensor,
        IReadOnlyList<(double Weight, double[] Values)> deltas)
    {
        var term = new CombinedTerm(type, density, seed, tensor, [.. deltas.Select((d, i) => new AdapterDelta(i, d.Weight, []))]);
        var all = RowSet.OfRange(0, 1, deltas[0].Values.Length);
        Reference Given(double[] values) => new FormulaReference(set => values.CopyTo(set.Values, 0), all: true);
        new CombinedReference(term, [.. deltas.Select(d => new[] { Given(d.Values) })], 1).Apply(all);
        return all.Values;
    }

    public static bool[] Mask(int seed, string tensor, int adapter, double density, int count)
    {
        var ones = Enumerable.Repeat(1f, count).ToArray();
        new RandomMask(seed, tensor, adapter, density).Apply(0, ones);
        return Array.ConvertAll(ones, v => v == 1);
    }
}
