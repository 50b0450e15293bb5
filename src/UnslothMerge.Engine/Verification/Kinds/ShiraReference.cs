using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>SHiRA: single entries of W are changed (arXiv 2406.13175; PEFT 0.21).</summary>
internal sealed class ShiraReference : ReferenceKind
{
    public override Reference Of(AdapterModule module, ReferenceTarget target)
    {
        var (places, values) = (module.Values("shira_indices"), module.Values("shira_weight"));
        return new AddedReference((rows, _) => Sparse(rows, target.Inputs, [.. values.Select((v, n) => ((long)places[n], (long)places[values.Length + n], v))]), target.Factor);
    }

    /// <summary>Some rows of a matrix of which only these entries are not zero.</summary>
    public static Matrix<double> Sparse(IReadOnlyList<long> rows, int columns, IEnumerable<(long Row, long Column, double Value)> entries)
    {
        var at = rows.Select((row, i) => (row, i)).ToDictionary(p => p.row, p => p.i);
        var matrix = Matrix<double>.Build.Dense(rows.Count, columns);
        foreach (var (row, column, value) in entries)
        {
            if (at.TryGetValue(row, out var i))
            {
                matrix[i, (int)column] += value;
            }
        }

        return matrix;
    }
}
