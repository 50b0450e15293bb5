using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>DEFT: W + P(s·R − relu(P)ᵀW), or with P's orthogonal factor in both places (PEFT 0.21).</summary>
internal sealed class DeftReference : ReferenceKind
{
    public override (long? Outputs, long? Inputs) Size(AdapterModule module) => (module.Shape("deft_P")[0], module.Has("deft_R") ? module.Shape("deft_R")[1] : null);

    public override Reference Of(AdapterModule module, ReferenceTarget target)
    {
        var p = module.Matrix("deft_P");
        var scale = module.Number("alpha") is { } alpha and not 0 ? alpha / p.ColumnCount : 1;
        var (left, project) = (string?)module.Config["decomposition_method"] == "qr" && Orthogonal(p) is var q ? (q, q) : (p, p.PointwiseMaximum(0));
        return new AddedReference(
            (_, weight) =>
            {
                var right = -(project.TransposeThisAndMultiply(weight));
                return left * (module.Has("deft_R") && (bool?)module.Config["para"] != true ? right + (scale * module.Matrix("deft_R")) : right);
            },
            target.Factor)
        { All = true };
    }

    // Gram and Schmidt, twice, with the signs of LAPACK's reflections: the diagonal of R has the sign opposite to the pivot's.
    private static Matrix<double> Orthogonal(Matrix<double> p)
    {
        var q = p.GramSchmidt().Q.SubMatrix(0, p.RowCount, 0, p.ColumnCount);
        var rest = p.Clone();
        for (var k = 0; k < p.ColumnCount; k++)
        {
            var column = rest.SubMatrix(k, rest.RowCount - k, k, 1).Column(0);
            var sign = column[0] < 0 ? -1.0 : 1.0;
            if (column.L2Norm() > 0 && q.Column(k).DotProduct(p.Column(k)) * -sign < 0)
            {
                q.SetColumn(k, -q.Column(k));
            }

            column[0] += sign * column.L2Norm();
            var length = column.DotProduct(column);
            if (length > 0)
            {
                var below = rest.SubMatrix(k, rest.RowCount - k, 0, rest.ColumnCount);
                rest.SetSubMatrix(k, 0, below - (2 / length * column.ToColumnMatrix() * (column.ToRowMatrix() * below)));
            }
        }

        return q;
    }
}
