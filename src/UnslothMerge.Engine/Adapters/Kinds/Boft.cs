using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>BOFT: a product of butterfly rotations of the input [N, blocks, n, n] and a scale per output. Source: BOFT (arXiv 2311.06243);
/// PEFT 0.21, <c>boft.Linear</c>, <c>boft.Conv2d</c>.</summary>
internal sealed class Boft() : WeightKind("BOFT", "BOFT", [Rotations, Scales])
{
    private const string Rotations = "boft_R";
    private const string Scales = "boft_s";

    protected override ModuleChanges Changes(AdaptedModule module, TargetTensor weight)
    {
        var (rotations, scales) = (module.Part(Rotations), module.Part(Scales));
        var layout = IsButterfly(rotations.Shape)
            ? LayerLayout.Of(module, scales.Shape.Count(), rotations.Shape[1] * rotations.Shape[2])
            : null;
        AdaptedModule.Require(
            layout is not null,
            $"{Rotations} {rotations.Shape.Text()} and {Scales} {scales.Shape.Text()} do not fit {weight.Name} {weight.Shape.Text()}");
        return new ModuleChanges(new TensorChange(weight, new BoftTerm(Name, rotations, scales, layout), layout.View));
    }

    // Factor i of several permutes spans of 2ⁱ blocks, each cut into halves.
    private static bool IsButterfly(IReadOnlyList<long> shape) =>
        shape is [> 0 and < 32, > 0, > 0, _] && shape[2] == shape[3]
            && (shape[0] == 1 || (shape[2] % 2 == 0 && shape[1] % (1L << (int)(shape[0] - 1)) == 0));
}
