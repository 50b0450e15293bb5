using UnslothMerge.Adapters.Terms;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>
/// BOFT: a product of butterfly rotations of the input [N, blocks, n, n] and a scale per output. Source: BOFT (arXiv 2311.06243); PEFT 0.21,
/// <c>boft.Linear</c>, <c>boft.Conv2d</c>.
/// </summary>
public sealed class Boft : AdapterKind
{
    private const string Rotations = "boft_R";
    private const string Scales = "boft_s";

    /// <inheritdoc/>
    public override string Name => "BOFT";

    /// <inheritdoc/>
    public override string PeftType => "BOFT";

    /// <inheritdoc/>
    public override IReadOnlyList<string> Parts { get; } = [Rotations, Scales];

    /// <inheritdoc/>
    public override bool Bind(ModuleAdapter module, IAdapterTarget target)
    {
        if (target.Find(module.Module, "weight") is not { } weight)
        {
            return false;
        }

        if (module.Find(Rotations) is not { } rotations || module.Find(Scales) is not { } scales)
        {
            target.Problem(module, $"the module {module.Module} has only one of {Rotations} and {Scales}");
        }
        else if (!IsButterfly(rotations.Shape) || LayerLayout.Of(module, target, weight, scales.Shape.Count(), rotations.Shape[1] * rotations.Shape[2]) is not { } layout)
        {
            target.Problem(module, $"{Rotations} {rotations.Shape.Text()} and {Scales} {scales.Shape.Text()} do not fit {weight.Name} {weight.Shape.Text()}");
        }
        else
        {
            target.Add(weight, module.Module, new BoftTerm(Name, rotations, scales, layout), layout.View);
        }

        return true;
    }

    // Factor i of several permutes spans of 2ⁱ blocks, each cut into halves.
    private static bool IsButterfly(IReadOnlyList<long> shape) =>
        shape is [> 0 and < 32, > 0, > 0, _] && shape[2] == shape[3] && (shape[0] == 1 || (shape[2] % 2 == 0 && shape[1] % (1L << (int)(shape[0] - 1)) == 0));
}
