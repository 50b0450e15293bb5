using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>RoAd: pairs of outputs are rotated and scaled, and the bias with them (arXiv 2409.00119; PEFT 0.21).</summary>
internal sealed class RoadReference : ReferenceKind
{
    public override Reference Of(AdapterModule module, ReferenceTarget target)
    {
        var (theta, alpha) = (module.Values("road_theta"), module.Values("road_alpha"));
        var group = (int)(module.Number("group_size") ?? 64);
        var half = group / 2;
        var variant = (string?)module.Config["variant"] ?? "road_1";
        return new MappedReference((_, weight) => Matrix<double>.Build.Dense(weight.RowCount, weight.ColumnCount, (i, j) =>
        {
            var (first, inner) = (i / group * group, i % group);
            var (cosine, sine) = variant switch
            {
                "road_1" => ((first / 2) + (inner % half), (first / 2) + (inner % half)),
                "road_2" => (i, i),
                _ => ((2 * first) + inner, (2 * first) + group + inner),
            };
            var other = inner < half ? -weight[i + half, j] : weight[i - half, j];
            return (alpha[cosine] * Math.Cos(theta[cosine]) * weight[i, j]) + (alpha[sine] * Math.Sin(theta[sine]) * other);
        }))
        { All = true };
    }
}
