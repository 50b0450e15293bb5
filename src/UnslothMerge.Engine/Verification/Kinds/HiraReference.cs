using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>HiRA: W + W⊙BA, on an embedding W + W⊙(BA)ᵀ (ICLR 2025; PEFT 0.21).</summary>
internal sealed class HiraReference : ReferenceKind
{
    public override (long? Outputs, long? Inputs) Size(AdapterModule module) => module.Has("hira_B") ? (module.Shape("hira_B")[0], module.Shape("hira_A").Skip(1).Aggregate(1L, (x, y) => x * y)) : (null, null);

    public override Reference Of(AdapterModule module, ReferenceTarget target)
    {
        var (left, right) = module.Has("hira_embedding_A")
            ? (module.Matrix("hira_embedding_A").Transpose(), module.Matrix("hira_embedding_B").Transpose())
            : (module.Matrix("hira_B"), module.Matrix("hira_A"));
        return new AddedReference((rows, weight) => weight.PointwiseMultiply(left.Pick(rows) * right), target.Factor);
    }
}
