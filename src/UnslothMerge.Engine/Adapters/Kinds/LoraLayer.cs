using UnslothMerge.Formats;
using UnslothMerge.Models;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>
/// LoRA on a Linear layer, on transformers' Conv1D, or on a convolution: W + s·BA with A [r, in, …] and B [out, r, …]; with <c>lora_bias</c> also
/// b + s·bias; with a magnitude vector DoRA, with a diagonal KaSA. Source: LoRA (arXiv 2106.09685); PEFT 0.21, <c>lora.Linear</c>, <c>lora.Conv1d</c> … <c>Conv3d</c>.
/// </summary>
public sealed class LoraLayer : AdapterKind
{
    internal const string A = "lora_A.weight";
    internal const string B = "lora_B.weight";
    internal const string Bias = "lora_B.bias";

    // One per rank component: the singular values of KaSA's update.
    private const string Diagonal = "lora_diag";

    /// <inheritdoc/>
    public override string Name => "LoRA";

    /// <inheritdoc/>
    public override string PeftType => "LORA";

    /// <inheritdoc/>
    public override IReadOnlyList<string> Parts => [A, B, Bias, Diagonal, .. Magnitude.Parts];

    /// <inheritdoc/>
    public override bool Bind(ModuleAdapter module, IAdapterTarget target)
    {
        if (target.Find(module.Module, "weight") is not { } weight || (module.Find(A) ?? module.Find(B)) is not { } factor || (weight.Shape.Count > 2 && factor.Shape.Count == 2))
        {
            return false;
        }

        if (LoraPair.Find(module, target, A, B) is { } pair)
        {
            var type = target.Layers.Of(module.Module, weight.Shape, pair.B.Rows, pair.A.Tensor.Shape[1] * pair.A.Blocks, module.Config.IsSet("fan_in_fan_out"));
            if (Misfit(type, weight, pair) is { } reason)
            {
                LoraPair.Report(module, target, reason);
            }
            else
            {
                BindPair(module, target, weight, type, pair);
            }
        }

        return true;
    }

    private void BindPair(ModuleAdapter module, IAdapterTarget target, TargetTensor weight, LayerType type, LoraPair pair)
    {
        var transposed = type == LayerType.TransposedLinear;
        var view = type == LayerType.Convolution ? MatrixView.ByOutput(weight.Shape) : MatrixView.Of(weight.Shape);
        var magnitude = Magnitude.Find(module);
        var diagonal = module.Find(Diagonal);
        var (left, right) = transposed ? (pair.A.Transpose(), pair.B.Transpose()) : (pair.B, pair.A);
        var update = new LowRankTerm(magnitude is not null ? "DoRA" : Name, left, right, pair.Scaling * LoraAttention.Times(module, target), diagonal);
        if (diagonal is null && !module.Config.IsSet("kasa_config"))
        {
            target.Add(weight, module.Module, update, view);
        }
        else if (diagonal is null || diagonal.Shape.Count() != pair.Rank || pair.Rank >= Math.Min(view.Rows, view.Columns) || type != LayerType.Linear)
        {
            LoraPair.Report(module, target, $"KaSA needs {Diagonal} [{pair.Rank}] and a Linear layer with a weight of a higher rank; {module.Module} has {diagonal?.Shape.Text() ?? "none"} and {weight.Name} {weight.Shape.Text()}");
            return;
        }
        else
        {
            target.Add(weight, module.Module, new KasaTerm(update), view);
        }

        Magnitude.Bind(module, target, weight, byColumn: transposed, pair.B.Rows, view);
        if (module.Find(Bias) is { } bias)
        {
            BindBias(module, target, bias, pair.B.Rows, pair.Scaling);
        }
    }

    private void BindBias(ModuleAdapter module, IAdapterTarget target, StoredTensor bias, long outputs, double scaling)
    {
        if (target.Find(module.Module, "bias") is not { } tensor)
        {
            target.Problem(bias, $"{module.Module} has no bias in the base that it could be added to");
        }
        else if (bias.Shape.Count() != outputs || tensor.Shape.Count() != outputs)
        {
            target.Problem(bias, $"{bias.Shape.Text()} does not fit {tensor.Name} {tensor.Shape.Text()}");
        }
        else
        {
            target.Add(tensor, module.Module, new VectorTerm(Name, bias, scaling));
        }
    }

    private static string? Misfit(LayerType type, TargetTensor weight, LoraPair pair)
    {
        var (a, b) = (pair.A.Tensor.Shape, pair.B.Tensor.Shape);
        if (type != LayerType.Convolution)
        {
            long[] delta = type == LayerType.TransposedLinear ? [pair.A.Columns, pair.B.Rows] : [pair.B.Rows, pair.A.Columns];
            return a.Count == 2 && b.Count == 2 && weight.Shape.SequenceEqual(delta) ? null : $"the delta is {delta.Text()}, the weight {weight.Name} is {weight.Shape.Text()}";
        }

        if (a.Count == weight.Shape.Count && b[0] == weight.Shape[0] && b.Skip(2).All(k => k == 1) && a.Skip(2).SequenceEqual(weight.Shape.Skip(2)))
        {
            return a[1] == weight.Shape[1] ? null
                : $"{weight.Name} {weight.Shape.Text()} is a convolution with groups: lora_A {a.Text()} reads all {a[1]} input channels, the weight only {weight.Shape[1]}, so it cannot hold the delta";
        }

        return $"lora_A {a.Text()} and lora_B {b.Text()} do not make a delta for the convolution {weight.Name} {weight.Shape.Text()}";
    }
}
