using UnslothMerge.Adapters.Terms;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>BEFT: b + v, v stored as [1, out]. Source: BEFT (arXiv 2509.15974); PEFT 0.21, <c>BeftLayer</c>.</summary>
public sealed class Beft : AdapterKind
{
    private const string Vector = "beft_bias";

    /// <inheritdoc/>
    public override string Name => "BEFT";

    /// <inheritdoc/>
    public override string PeftType => "BEFT";

    /// <inheritdoc/>
    public override IReadOnlyList<string> Parts { get; } = [Vector];

    /// <inheritdoc/>
    public override bool Bind(ModuleAdapter module, IAdapterTarget target)
    {
        if (target.Find(module.Module, "weight") is null)
        {
            return false;
        }

        var vector = module.Tensors[Vector];
        if (target.Find(module.Module, "bias") is not { } bias)
        {
            target.Problem(vector, $"{module.Module} has no bias in the base that it could be added to");
        }
        else if (vector.Shape.Count() != bias.Shape.Count() || vector.Shape is not ([_] or [1, _]))
        {
            target.Problem(vector, $"{vector.Shape.Text()} does not fit {bias.Name} {bias.Shape.Text()}");
        }
        else
        {
            target.Add(bias, module.Module, new VectorTerm(Name, vector, 1));
        }

        return true;
    }
}
