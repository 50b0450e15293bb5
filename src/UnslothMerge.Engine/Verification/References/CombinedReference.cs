using UnslothMerge.Adapters.Combining;

namespace UnslothMerge.Verification.References;

/// <summary>Several deltas made one by another rule than their sum: TIES (arXiv 2306.01708), DARE (arXiv 2311.03099), magnitude pruning. Whole tensors, as the papers write it.</summary>
internal sealed class CombinedReference(CombinedTerm term, IReadOnlyList<IReadOnlyList<Reference>> deltas, double factor) : Reference
{
    public override bool NeedsAllRows => true;

    public override void Apply(RowSet set)
    {
        var weights = term.Deltas.Select(d => d.Weight).ToArray();
        var thinned = deltas.Select((references, n) => Thin(Delta(set, references), n)).ToArray();
        for (var i = 0; i < set.Values.Length; i++)
        {
            var (sum, sign) = (0.0, 0);
            for (var n = 0; n < thinned.Length; n++)
            {
                sum += weights[n] * thinned[n][i];
            }

            sign = sum >= 0 ? 1 : -1;
            if (term.Type is CombinationType.Ties or CombinationType.DareTies)
            {
                var (agreeing, total) = (0.0, 0.0);
                for (var n = 0; n < thinned.Length; n++)
                {
                    if (Math.Sign(weights[n] * thinned[n][i]) == sign)
                    {
                        agreeing += weights[n] * thinned[n][i];
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

    private double[] Thin(double[] values, int adapter)
    {
        if (term.Density >= 1)
        {
            return values;
        }

        if (term.Type is CombinationType.Ties or CombinationType.MagnitudePrune)
        {
            // Equal ones are kept in the order of their index; sizes are compared in fp32, as the rule says.
            var order = Enumerable.Range(0, values.Length).ToArray();
            var sizes = Array.ConvertAll(values, v => -Math.Abs((float)v));
            Array.Sort(order, (a, b) => sizes[a] != sizes[b] ? sizes[a].CompareTo(sizes[b]) : a - b);
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
