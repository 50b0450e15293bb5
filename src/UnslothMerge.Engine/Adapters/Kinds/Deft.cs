using UnslothMerge.Adapters.Numerics;
using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>DEFT: W + Q(s·R − TᵀW), with P [out, r], R [r, in]. By <c>decomposition_method</c>, relu: Q = P, T = relu(P); qr: Q = T is the
/// orthogonal factor of P, with LAPACK's signs. s = alpha/r, or 1 without alpha. With <c>para</c> there is no R. Source: PEFT 0.21,
/// <c>deft</c>.</summary>
internal sealed class Deft() : MatrixKind("DEFT", "DEFT", [P, R])
{
    private const string P = "deft_P";
    private const string R = "deft_R";

    protected override MatrixDelta Build(AdaptedModule module)
    {
        var p = module.Numbers(P, 2);
        var (outputs, rank) = ((int)p.Shape[0], (int)p.Shape[1]);
        var onlyProjects = module.Config.Flag("para") == true;
        var r = onlyProjects ? null : module.Numbers(R, 2);
        AdaptedModule.Require(r is null || r.Shape[0] == rank, $"{P} {p.Shape.Text()} and {R} {r?.Shape.Text()} are not of one rank");
        var method = module.Config.Json.String("decomposition_method") ?? "relu";
        AdaptedModule.Require(method is "relu" or "qr", $"the decomposition_method '{method}' is not known");
        AdaptedModule.Require(method == "relu" || rank <= outputs, $"{P} {p.Shape.Text()} has more columns than rows");
        var transposed = module.IsTransposed(outputs, r?.Shape[1]);
        var inputs = module.Features(transposed).Inputs;
        var scale = module.Config.Number("alpha") is { } alpha and not 0 ? alpha / rank : 1;
        return new MatrixDelta(r is null ? [p] : [p, r], from =>
        {
            var left = from.Read(p);
            double[] project;
            if (method == "qr")
            {
                left = project = Householder.Orthogonal(left, outputs, rank);
            }
            else
            {
                project = Array.ConvertAll(left, x => Math.Max(x, 0));
            }

            var right = from.TimesWeight(Matrices.Transpose(project, outputs, rank), rank, transposed);
            var learned = r is null ? new double[right.Length] : from.Read(r);
            for (var i = 0; i < right.Length; i++)
            {
                right[i] = (scale * learned[i]) - right[i];
            }

            return new ProductMatrix(left, right, rank, inputs);
        })
        {
            IsTransposed = transposed,
            Rank = rank,
            Reach = DeltaReach.ReducingPass,
            ExtraBytes = (long)rank * (inputs + (2L * outputs)) * sizeof(double),
        };
    }
}
