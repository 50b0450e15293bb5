using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>GLoRA: W + W⊙A + B and b + b⊙D + E + W·C, each support a product of two factors, a vector or a number, or absent. Source: GLoRA
/// (arXiv 2306.07967); PEFT 0.21, <c>GloraLinear</c>.</summary>
internal sealed class Glora() : WeightKind(
    "GLoRA", "GLORA", [.. "ABCDE".SelectMany(support => new[] { $"glora_{support}.Xd", $"glora_{support}.Xu", $"glora_{support}.X" })])
{
    protected override ModuleChanges Changes(AdaptedModule module, TargetTensor weight)
    {
        AdaptedModule.Require(weight.Shape.Count == 2, $"GLoRA changes Linear layers only, and {weight.Name} is {weight.Shape.Text()}");
        var (outputs, inputs) = (weight.Shape[0], weight.Shape[1]);
        var (a, b) = (Path(module, 'A', outputs, inputs), Path(module, 'B', outputs, inputs));
        var (c, d, e) = (Path(module, 'C', inputs, 1), Path(module, 'D', outputs, 1), Path(module, 'E', outputs, 1));
        var changes = new List<TensorChange>();
        if ((a ?? b) is not null)
        {
            changes.Add(new TensorChange(weight, new GloraTerm(Name, a, b, ofBias: false)));
        }

        if ((c ?? d ?? e) is not null)
        {
            var bias = module.FindParameter("bias");
            var ofBias = new[] { c, d, e }.SelectMany(p => p?.Inputs ?? []).ToList();
            AdaptedModule.Require(
                bias?.Shape.Count() == outputs, $"{module.Name} has no bias of {outputs} in the base that it could be added to", ofBias);
            changes.AddRange((d ?? e) is null ? [] : [new TensorChange(bias!, new GloraTerm(Name, d, e, ofBias: true))]);
            changes.AddRange(c is null ? [] : [new TensorChange(bias!, new WeightProductTerm(Name, weight.Source, c))]);
        }

        return new ModuleChanges(changes);
    }

    private static GloraPath? Path(AdaptedModule module, char support, long rows, long columns)
    {
        StoredTensor? Find(string part) => module.Find($"glora_{support}.{part}");
        var (left, right, alone) = (Find("Xd"), Find("Xu"), Find("X"));
        if ((left ?? right ?? alone) is null)
        {
            return null;
        }

        StoredTensor[] all = [.. new[] { left, right, alone }.OfType<StoredTensor>()];
        var path = (left, right, alone) switch
        {
            (not null, not null, null) => new GloraPath(left, right),
            (null, null, not null) => new GloraPath(alone, null),
            _ => throw new MisfitException($"glora_{support} of {module.Name} is neither Xd and Xu nor X alone", all),
        };
        AdaptedModule.Require(
            path.Right is null || support <= 'C', $"glora_{support} is a product, but the bias takes vectors and numbers only", all);
        return path.Misfit(rows, columns) is { } reason ? throw new MisfitException(reason, all) : path;
    }
}
