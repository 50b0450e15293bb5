using UnslothMerge.Adapters.Combining;

namespace UnslothMerge.Verification.References;

/// <summary>Several deltas combined by another rule than their sum: TIES (arXiv 2306.01708), DARE (arXiv 2311.03099), magnitude pruning. On
/// whole tensors, as the papers write it.</summary>
internal sealed class CombinedReference(CombinedTerm term, IReadOnlyList<IReadOnlyList<Reference>> deltas, double factor) : Reference
{
    public override bool NeedsAllRows => true;

    public override void Apply(RowSet set)
    {
        var weights = term.Deltas.Select(d => d.Weight).ToArray();
        var pruned = deltas.Select((references, n) => Prune(Delta(set, references), n)).ToArray();
        for (var i = 0; i < set.Values.Length; i++)
        {
            var sum = weights.Select((w, n) => w * pruned[n][i]).Sum();
            if (term.Type is CombinationType.Ties or CombinationType.DareTies)
            {
                var (sign, agreeing, total) = (sum >= 0 ? 1 : -1, 0.0, 0.0);
                for (var n = 0; n < pruned.Length; n++)
                {
                    if (Math.Sign(weights[n] * pruned[n][i]) == sign)
                    {
                        agreeing += weights[n] * pruned[n][i];
                        total += weights[n];
                    }
                }

                sum = term.Type == CombinationType.Ties && total != 0 ? agreeing / total : agreeing;
            }

            set.Values[i] += factor * sum;
        }
    }

    private static double[] Delta(RowSet set, IReadOnlyList<Reference> references)
    {
        var own = new RowSet(set.Rows, set.Columns) { Weight = set.Weight };
        foreach (var reference in references)
        {
            reference.Apply(own);
        }

        return own.Values;
    }

    private double[] Prune(double[] values, int adapter)
    {
        if (term.Density >= 1)
        {
            return values;
        }

        if (term.Type is CombinationType.Ties or CombinationType.MagnitudePrune)
        {
            // Of equal ones the first is kept; magnitudes are compared in fp32, as the rule says.
            var order = Enumerable.Range(0, values.Length).ToArray();
            var magnitudes = Array.ConvertAll(values, v => -Math.Abs((float)v));
            Array.Sort(order, (a, b) => magnitudes[a] != magnitudes[b] ? magnitudes[a].CompareTo(magnitudes[b]) : a - b);
            foreach (var dropped in order.AsSpan((int)(term.Density * values.Length)))
            {
                values[dropped] = 0;
            }

            return values;
        }

        var mask = Enumerable.Repeat(1f, values.Length).ToArray();
        term.MaskOf(term.Deltas[adapter]).Apply(0, mask);
        return [.. values.Zip(mask, (v, m) => v * m / term.Density)];
    }
}
