using UnslothMerge.Adapters.Terms;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>
/// GLoRA: W + W⊙A + B and b + b⊙D + E + W·C, each support a product of two factors, a vector or a number, or absent.
/// Source: GLoRA (arXiv 2306.07967); PEFT 0.21, <c>GloraLinear</c>.
/// </summary>
public sealed class Glora : AdapterKind
{
    /// <inheritdoc/>
    public override string Name => "GLoRA";

    /// <inheritdoc/>
    public override string PeftType => "GLORA";

    /// <inheritdoc/>
    public override IReadOnlyList<string> Parts { get; } = [.. "ABCDE".SelectMany(support => new[] { $"glora_{support}.Xd", $"glora_{support}.Xu", $"glora_{support}.X" })];

    /// <inheritdoc/>
    public override bool Bind(ModuleAdapter module, IAdapterTarget target)
    {
        if (target.Find(module.Module, "weight") is not { } weight)
        {
            return false;
        }

        if (weight.Shape is not [var outputs, var inputs])
        {
            target.Problem(module, $"GLoRA changes Linear layers only, and {weight.Name} is {weight.Shape.Text()}");
            return true;
        }

        var a = Path(module, target, 'A', outputs, inputs);
        var b = Path(module, target, 'B', outputs, inputs);
        var c = Path(module, target, 'C', inputs, 1);
        var d = Path(module, target, 'D', outputs, 1);
        var e = Path(module, target, 'E', outputs, 1);
        if ((a ?? b) is not null)
        {
            target.Add(weight, module.Module, new GloraTerm(Name, a, b, ofBias: false));
        }

        BindBias(module, target, weight, c, d, e);
        return true;
    }

    private void BindBias(ModuleAdapter module, IAdapterTarget target, TargetTensor weight, GloraPath? c, GloraPath? d, GloraPath? e)
    {
        var inputs = new[] { c, d, e }.SelectMany(p => p?.Inputs ?? []).ToList();
        if (inputs.Count == 0)
        {
            return;
        }

        if (target.Find(module.Module, "bias") is not { } bias || bias.Shape.Count() != weight.Shape[0])
        {
            inputs.ForEach(t => target.Problem(t, $"{module.Module} has no bias of {weight.Shape[0]} in the base that it could be added to"));
            return;
        }

        if ((d ?? e) is not null)
        {
            target.Add(bias, module.Module, new GloraTerm(Name, d, e, ofBias: true));
        }

        if (c is not null)
        {
            target.Add(bias, module.Module, new WeightProductTerm(Name, weight.Source, c));
        }
    }

    private static GloraPath? Path(ModuleAdapter module, IAdapterTarget target, char support, long rows, long columns)
    {
        var (left, right, alone) = (module.Find($"glora_{support}.Xd"), module.Find($"glora_{support}.Xu"), module.Find($"glora_{support}.X"));
        StoredTensor[] all = [.. new[] { left, right, alone }.OfType<StoredTensor>()];
        if (all.Length == 0)
        {
            return null;
        }

        var path = (left, right, alone) switch
        {
            (not null, not null, null) => new GloraPath(left, right),
            (null, null, not null) => new GloraPath(alone, null),
            _ => null,
        };
        var reason = path is null ? $"glora_{support} of {module.Module} is neither Xd and Xu nor X alone"
            : path.Right is not null && support > 'C' ? $"glora_{support} is a product, but the bias takes vectors and numbers only"
            : path.Misfit(rows, columns);
        if (reason is null)
        {
            return path;
        }

        Array.ForEach(all, t => target.Problem(t, reason));
        return null;
    }
}
