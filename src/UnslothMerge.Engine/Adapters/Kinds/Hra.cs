using UnslothMerge.Adapters.Terms;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>HRA: the input passes r reflections, whose vectors are the columns of [in, r]. Source: HRA (arXiv 2405.17484); PEFT 0.21, <c>HRALayer</c>.</summary>
public sealed class Hra : AdapterKind
{
    private const string Vectors = "hra_u";

    /// <inheritdoc/>
    public override string Name => "HRA";

    /// <inheritdoc/>
    public override string PeftType => "HRA";

    /// <inheritdoc/>
    public override IReadOnlyList<string> Parts { get; } = [Vectors];

    /// <inheritdoc/>
    public override bool Bind(ModuleAdapter module, IAdapterTarget target)
    {
        if (target.Find(module.Module, "weight") is not { } weight)
        {
            return false;
        }

        var vectors = module.Tensors[Vectors];
        if (vectors.Shape is not [_, > 0] || LayerLayout.Of(module, target, weight, null, vectors.Shape[0]) is not { } layout)
        {
            target.Problem(vectors, $"{vectors.Shape.Text()} does not fit the inputs of {weight.Name} {weight.Shape.Text()}");
        }
        else if (module.Config.RankOf(module.Module) is { } rank && rank != vectors.Shape[1])
        {
            target.Problem(vectors, $"its rank is {vectors.Shape[1]}, but adapter_config.json gives {module.Module} the rank {rank}");
        }
        else
        {
            target.Add(weight, module.Module, new HraTerm(Name, vectors, module.Config.IsSet("apply_GS"), layout), layout.View);
        }

        return true;
    }
}
