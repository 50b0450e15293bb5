using UnslothMerge.Adapters.Terms;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>OSF: the smallest singular components of a Linear layer's weight are replaced. Source: OSF (arXiv 2504.07097); PEFT 0.21, <c>OSFLayer</c>.</summary>
public sealed class Osf : AdapterKind
{
    private const string U = "osf_svd_params.U_low";
    private const string S = "osf_svd_params.S_low";
    private const string V = "osf_svd_params.V_low";

    /// <inheritdoc/>
    public override string Name => "OSF";

    /// <inheritdoc/>
    public override string PeftType => "OSF";

    /// <inheritdoc/>
    public override IReadOnlyList<string> Parts { get; } = [U, S, V];

    /// <inheritdoc/>
    public override bool Bind(ModuleAdapter module, IAdapterTarget target)
    {
        if (target.Find(module.Module, "weight") is not { } weight)
        {
            return false;
        }

        if (module.Find(U) is not { } u || module.Find(S) is not { } s || module.Find(V) is not { } v)
        {
            target.Problem(module, $"the module {module.Module} has not all of {U}, {S} and {V}");
        }
        else if (weight.Shape is not [var outputs, var inputs] || s.Shape is not [var low] || low > Math.Min(outputs, inputs)
            || weight.Shape.Count() > int.MaxValue
            || !u.Shape.SequenceEqual([outputs, low]) || !v.Shape.SequenceEqual([low, inputs]))
        {
            target.Problem(module, $"{u.Shape.Text()}, {s.Shape.Text()} and {v.Shape.Text()} are not singular components of {weight.Name} {weight.Shape.Text()}");
        }
        else
        {
            target.Add(weight, module.Module, new OsfTerm(Name, u, s, v));
        }

        return true;
    }
}
