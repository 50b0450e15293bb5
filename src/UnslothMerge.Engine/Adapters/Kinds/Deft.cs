using UnslothMerge.Adapters.Numerics;
using UnslothMerge.Adapters.Terms;
using UnslothMerge.Models;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>
/// DEFT: W + Q(s·R − TᵀW), with P [out, r], R [r, in]. By <c>decomposition_method</c>, relu: Q = P, T = relu(P); qr: Q = T is the orthogonal factor
/// of P, with LAPACK's signs. s = alpha/r, or 1 without alpha. With <c>para</c> there is no R. Source: PEFT 0.21, <c>deft</c>.
/// </summary>
public sealed class Deft : MatrixKind
{
    private const string P = "deft_P";
    private const string R = "deft_R";

    /// <inheritdoc/>
    public override string Name => "DEFT";

    /// <inheritdoc/>
    public override string PeftType => "DEFT";

    /// <inheritdoc/>
    public override IReadOnlyList<string> Parts { get; } = [P, R];

    /// <inheritdoc/>
    protected override MatrixDelta Build(ModuleParts parts)
    {
        var p = parts.Numbers(P, 2);
        var (outputs, rank) = ((int)p.Shape[0], (int)p.Shape[1]);
        var onlyProjects = parts.Config.Json.Bool("para") == true;
        var r = onlyProjects ? null : parts.Numbers(R, 2);
        ModuleParts.Require(r is null || r.Shape[0] == rank, $"{P} {p.Shape.Text()} and {R} {r?.Shape.Text()} are not of one rank");
        var method = parts.Config.Json.String("decomposition_method") ?? "relu";
        ModuleParts.Require(method is "relu" or "qr", $"the decomposition_method '{method}' is not known");
        ModuleParts.Require(method == "relu" || rank <= outputs, $"{P} {p.Shape.Text()} has more columns than rows");
        var transposed = parts.Orient(outputs, r?.Shape[1]);
        var inputs = parts.Features(transposed).Inputs;
        var scale = parts.Config.Json.Number("alpha") is { } alpha and not 0 ? alpha / rank : 1;
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

            var right = from.TimesWeight(TermInputs.Transpose(project, outputs, rank), rank);
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
