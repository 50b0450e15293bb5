using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>BEFT: b + v, v stored as [1, out]. Source: BEFT (arXiv 2509.15974); PEFT 0.21, <c>BeftLayer</c>.</summary>
internal sealed class Beft() : WeightKind("BEFT", "BEFT", [Vector])
{
    private const string Vector = "beft_bias";

    protected override ModuleChanges Changes(AdaptedModule module, TargetTensor weight)
    {
        var vector = module.Part(Vector);
        var bias = module.RequireBias(vector);
        AdaptedModule.Require(
            vector.Shape.Count() == bias.Shape.Count() && vector.Shape is [_] or [1, _],
            $"{vector.Shape.Text()} does not fit {bias.Name} {bias.Shape.Text()}");
        return new ModuleChanges(new TensorChange(bias, new VectorTerm(Name, vector, 1)));
    }
}
