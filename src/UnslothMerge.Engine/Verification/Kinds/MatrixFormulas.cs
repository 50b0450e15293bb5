using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Adapters.Numerics;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>Kinds whose change depends on the whole weight.</summary>
internal static class MatrixFormulas
{
    /// <summary>OSF: the smallest singular components of W are replaced by the trained ones (arXiv 2504.07097; PEFT 0.21).</summary>
    public static Reference Osf(AdapterModule module, ReferenceTarget target)
    {
        var s = module.Vector("osf_svd_params.S_low");
        var trained = module.Matrix("osf_svd_params.U_low").TimesColumns(s) * module.Matrix("osf_svd_params.V_low");
        return FormulaReference.Map((_, weight) => weight.WithoutSmallest(s.Count) + trained, all: true);
    }

    /// <summary>PEANuT: W + scaling·(B·x) with x a small network's output for the weight (arXiv 2410.01870; PEFT 0.21).</summary>
    public static Reference? Peanut(AdapterModule module, ReferenceTarget target)
    {
        var depth = (int)(module.Number("depth") ?? 0);
        return Activations.Find(module.Text("act_fn") ?? "relu") is not { } activation ? null : target.Add(Delta, all: true);

        Matrix<double> Delta(IReadOnlyList<long> rows, Matrix<double> weight)
        {
            var x = Layer("peanut_A", weight);
            var encoded = new Stack<Matrix<double>>();
            for (var i = 0; i < depth; i++)
            {
                encoded.Push(x);
                x = Layer($"peanut_encoders.{i}", x);
            }

            for (var i = 0; i < depth; i++)
            {
                x = Layer($"peanut_decoders.{i}", x) + encoded.Pop();
            }

            return module.Number("scaling")!.Value * (module.Matrix("peanut_B.weight") * x);
        }

        Matrix<double> Layer(string name, Matrix<double> x) => (module.Matrix($"{name}.weight") * x).Map(activation);
    }

    /// <summary>FRoD: W·V⁻ᵀ with unit columns is U; U·(S + diag(λ))·Vᵀ replaces the weight (PEFT 0.21).</summary>
    public static Reference Frod(AdapterModule module, ReferenceTarget target)
    {
        var category = FrodCategory(module.Name);
        var (v, indices) = (module.Shared($"frod_V.{category}"), module.Shared($"frod_s_indices.{category}"));
        var core = Matrix<double>.Build.DenseOfDiagonalVector(module.Vector("frod_lambda_l"));
        foreach (var (n, value) in module.Values("frod_lambda_s_values").Index())
        {
            core[(int)indices[0, n], (int)indices[1, n]] += value;
        }

        return target.Add(
            (_, weight) =>
            {
                var u = v.Solve(weight.Transpose()).Transpose();
                u = u.TimesColumns(u.ColumnNorms(2).Map(norm => norm > 1e-12 ? 1 / norm : 0));
                return (u * core).TransposeAndMultiply(v) - weight;
            },
            all: true);
    }

    private static string FrodCategory(string module) => module.Split('.') switch
    {
        [.., "attention", "output", "dense"] => "attention_output",
        [.., var parent, var last] when !parent.All(char.IsAsciiDigit) => $"{parent}_{last}",
        [.., var last] => last,
        _ => module,
    };

    /// <summary>DEFT: W + P(s·R − relu(P)ᵀW), or with P's orthogonal factor in both places (PEFT 0.21).</summary>
    public static Reference Deft(AdapterModule module, ReferenceTarget target)
    {
        var p = module.Matrix("deft_P");
        var scale = module.Number("alpha") is { } alpha and not 0 ? alpha / p.ColumnCount : 1;
        var (left, project) = module.Text("decomposition_method") == "qr" && Orthogonal(p) is var q
            ? (q, q)
            : (p, p.PointwiseMaximum(0));
        var trained = module.Has("deft_R") && !module.IsSet("para")
            ? scale * module.Matrix("deft_R")
            : Matrix<double>.Build.Dense(p.ColumnCount, target.Inputs);
        return target.Add((_, weight) => left * (trained - project.TransposeThisAndMultiply(weight)), all: true);
    }

    // Gram and Schmidt, with the signs of LAPACK's reflections: the diagonal of R has the sign opposite to the pivot's.
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
