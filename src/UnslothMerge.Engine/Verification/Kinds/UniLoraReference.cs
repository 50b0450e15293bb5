using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>UniLoRA: A and B are made of the entries of one vector (arXiv 2506.00799; PEFT 0.21).</summary>
internal sealed class UniLoraReference : ReferenceKind
{
    public override (long? Outputs, long? Inputs) Size(AdapterModule module) => (module.Shape("unilora_indices_B")[0], module.Shape("unilora_indices_A")[1]);

    public override Reference Of(AdapterModule module, ReferenceTarget target)
    {
        var theta = module.Shared("unilora_theta_d");
        var (a, b) = (Factor("A"), Factor("B"));
        return new AddedReference((rows, _) => b.Pick(rows) * a, target.Factor);

        Matrix<double> Factor(string name) => module.Matrix($"unilora_indices_{name}").Map2((index, scale) => theta[(int)index, 0] * scale, module.Matrix($"unilora_scales_{name}"));
    }
}
