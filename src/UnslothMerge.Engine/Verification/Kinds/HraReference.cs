using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>HRA: W·(I − 2u₀u₀ᵀ)(I − 2u₁u₁ᵀ)…, or with orthogonalised vectors W·(I − 2UUᵀ) (arXiv 2405.17484; PEFT 0.21).</summary>
internal sealed class HraReference : ReferenceKind
{
    public override (long? Outputs, long? Inputs) Size(AdapterModule module) => (null, module.Shape("hra_u")[0]);

    public override Reference Of(AdapterModule module, ReferenceTarget target)
    {
        var units = module.Matrix("hra_u").EnumerateColumns().ToList();
        for (var i = 0; i < units.Count; i++)
        {
            for (var j = 0; (bool?)module.Config["apply_GS"] == true && j < i; j++)
            {
                units[i] -= units[j].DotProduct(units[i]) * units[j];
            }

            units[i] /= units[i].L2Norm();
        }

        return new MappedReference((_, weight) => units.Aggregate(weight, (w, u) => w - (2 * (w * u).OuterProduct(u))));
    }
}
