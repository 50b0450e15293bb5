using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>OSF: the smallest singular components of a Linear layer's weight are replaced. Source: OSF (arXiv 2504.07097); PEFT 0.21,
/// <c>OSFLayer</c>.</summary>
internal sealed class Osf() : WeightKind("OSF", "OSF", [U, S, V])
{
    private const string U = "osf_svd_params.U_low";
    private const string S = "osf_svd_params.S_low";
    private const string V = "osf_svd_params.V_low";

    protected override ModuleChanges Changes(AdaptedModule module, TargetTensor weight)
    {
        var (u, s, v) = (module.Part(U), module.Part(S), module.Part(V));
        AdaptedModule.Require(
            weight.Shape is [var outputs, var inputs] && s.Shape is [var low] && low <= Math.Min(outputs, inputs)
                && weight.Shape.Count() <= int.MaxValue
            && u.Shape.SequenceEqual([outputs, low]) && v.Shape.SequenceEqual([low, inputs]),
            $"{u.Shape.Text()}, {s.Shape.Text()} and {v.Shape.Text()} are not singular components of {weight.Name} {weight.Shape.Text()}");
        return new ModuleChanges(new TensorChange(weight, new OsfTerm(Name, u, s, v)));
    }
}
