using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>LoHa: W + alpha/r·(w1a·w1b)⊙(w2a·w2b); with cores of its own a convolution has Σ t[i, j, k, l]·b[j, c]·a[i, o] for each factor (arXiv 2108.06098; PEFT 0.21).</summary>
internal sealed class LoHaReference : ReferenceKind
{
    public override Reference Of(AdapterModule module, ReferenceTarget target)
    {
        var rank = module.Shape("hada_w1_b")[0];
        var scale = module.Number("alpha", "alpha_pattern") / rank;
        var delta = scale * Factor(module, "hada_w1_a", "hada_w1_b", "hada_t1").PointwiseMultiply(Factor(module, "hada_w2_a", "hada_w2_b", "hada_t2"));
        return new AddedReference((rows, _) => delta.Pick(rows), target.Factor);
    }

    /// <summary>a·b, or both through a core [r, r, kernel …].</summary>
    public static Matrix<double> Factor(AdapterModule module, string first, string second, string core)
    {
        var (a, b) = (module.Matrix(first), module.Matrix(second));
        if (!module.Has(core))
        {
            return a * b;
        }

        var (t, shape) = (module.Values(core), module.Shape(core));
        var (inner, kernel) = ((int)shape[1], (int)shape.Skip(2).Aggregate(1L, (x, y) => x * y));
        return Matrix<double>.Build.Dense(a.ColumnCount, b.ColumnCount * kernel, (o, column) =>
        {
            var (c, k, sum) = (column / kernel, column % kernel, 0.0);
            for (var i = 0; i < a.RowCount; i++)
            {
                for (var j = 0; j < inner; j++)
                {
                    sum += t[(((i * inner) + j) * kernel) + k] * b[j, c] * a[i, o];
                }
            }

            return sum;
        });
    }
}
