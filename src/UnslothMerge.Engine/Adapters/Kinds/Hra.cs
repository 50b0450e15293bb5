using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>HRA: the input passes r reflections, whose vectors are the columns of [in, r]. Source: HRA (arXiv 2405.17484); PEFT 0.21,
/// <c>HRALayer</c>.</summary>
internal sealed class Hra() : WeightKind("HRA", "HRA", [Vectors])
{
    private const string Vectors = "hra_u";

    protected override ModuleChanges Changes(AdaptedModule module, TargetTensor weight)
    {
        var vectors = module.Part(Vectors);
        var layout = vectors.Shape is [_, > 0] ? LayerLayout.Of(module, null, vectors.Shape[0]) : null;
        AdaptedModule.Require(layout is not null, $"{vectors.Shape.Text()} does not fit the inputs of {weight.Name} {weight.Shape.Text()}");
        module.RequireRank(vectors.Shape[1]);
        var term = new HraTerm(Name, vectors, module.Config.IsSet("apply_GS"), layout);
        return new ModuleChanges(new TensorChange(weight, term, layout.View));
    }
}
