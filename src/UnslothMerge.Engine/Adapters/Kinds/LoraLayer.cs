using UnslothMerge.Adapters.Terms;
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
    public override IReadOnlyList<string> Parts { get; } = [A, B, Bias, Diagonal, .. Magnitude.Parts];

    /// <inheritdoc/>
    public override bool Bind(ModuleAdapter module, IAdapterTarget target)
    {
        if (target.Find(module.Module, "weight") is not { } weight || (module.Find(A) ?? module.Find(B)) is not { } factor || (weight.Shape.Count > 2 && factor.Shape.Count == 2))
        {
            return false;
        }

        if (LoraPair.Find(module, target, A, B) is { } pair)
        {
            var bias = target.Find(module.Module, "bias")?.Shape.Count();
            var type = target.Layers.Of(module.Module, weight.Shape, bias, pair.Outputs, pair.Inputs, module.Config.IsSet("fan_in_fan_out"));
            if (Misfit(type, weight, pair) is { } reason)
            {
                target.Problem(module, reason);
            }
            else
            {
                BindPair(module, target, weight, type, pair with { Scaling = pair.Scaling * LoraAttention.Times(module, target) });
                BindBias(module, target, pair);
            }
        }

        return true;
    }

    private void BindPair(ModuleAdapter module, IAdapterTarget target, TargetTensor weight, LayerType type, LoraPair pair)
    {
        var kind = Magnitude.Find(module) is null ? Name : "DoRA";
        if (module.Find(Diagonal) is not null || module.Config.IsSet("kasa_config"))
        {
            BindKasa(module, target, weight, type, pair);
        }
        else if (pair.BlocksA > 1 || pair.BlocksB > 1)
        {
            target.Add(weight, module.Module, new BlockDiagonalTerm(kind, pair.B, pair.BlocksB, pair.A, pair.BlocksA, pair.Scaling));
        }
        else if (type == LayerType.TransposedLinear)
        {
            target.Add(weight, module.Module, new LowRankTerm(kind, pair.MatrixA.Transpose(), pair.MatrixB.Transpose(), pair.Scaling));
        }
        else
        {
            target.Add(weight, module.Module, new LowRankTerm(kind, pair.MatrixB, pair.MatrixA, pair.Scaling), MatrixView.ByOutput(weight.Shape));
        }

        Magnitude.Bind(module, target, weight, byColumn: type == LayerType.TransposedLinear, pair.Outputs);
    }

    private static void BindKasa(ModuleAdapter module, IAdapterTarget target, TargetTensor weight, LayerType type, LoraPair pair)
    {
        if (module.Find(Diagonal) is { } diagonal && diagonal.Shape.Count() == pair.Rank && pair.Rank < weight.Shape.Min() && type == LayerType.Linear)
        {
            target.Add(weight, module.Module, new KasaTerm(pair.B, diagonal, pair.A, pair.Scaling));
        }
        else
        {
            target.Problem(module, $"KaSA needs a {Diagonal} [{pair.Rank}] and a Linear layer with more than {pair.Rank} inputs and outputs; {module.Module} has {module.Find(Diagonal)?.Shape.Text() ?? "none"} and {weight.Name} {weight.Shape.Text()}");
        }
    }

    private void BindBias(ModuleAdapter module, IAdapterTarget target, LoraPair pair)
    {
        if (module.Find(Bias) is not { } bias)
        {
            return;
        }

        if (target.Find(module.Module, "bias") is not { } tensor)
        {
            target.Problem(bias, $"{module.Module} has no bias in the base that it could be added to");
        }
        else if (!bias.Shape.SequenceEqual([pair.Outputs]) || tensor.Shape.Count() != pair.Outputs)
        {
            target.Problem(bias, $"{bias.Shape.Text()} does not fit {tensor.Name} {tensor.Shape.Text()}");
        }
        else
        {
            target.Add(tensor, module.Module, new VectorTerm(Name, bias, module.Config.ScalingOf(module.Module, (int)pair.Rank)));
        }
    }

    private static string? Misfit(LayerType type, TargetTensor weight, LoraPair pair)
    {
        var (a, b) = (pair.A.Shape, pair.B.Shape);
        if (type != LayerType.Convolution)
        {
            long[] delta = type == LayerType.TransposedLinear ? [pair.Inputs, pair.Outputs] : [pair.Outputs, pair.Inputs];
            return a.Count != 2 || b.Count != 2 || !weight.Shape.SequenceEqual(delta) ? $"the delta is {delta.Text()}, the weight {weight.Name} is {weight.Shape.Text()}"
                : type == LayerType.TransposedLinear && (pair.BlocksA > 1 || pair.BlocksB > 1) ? "BD-LoRA (use_bdlora) is for Linear layers only"
                : null;
        }

        if (a.Count == weight.Shape.Count && b[0] == weight.Shape[0] && b.Skip(2).All(k => k == 1) && a.Skip(2).SequenceEqual(weight.Shape.Skip(2)))
        {
            return a[1] == weight.Shape[1] ? null
                : $"{weight.Name} {weight.Shape.Text()} is a convolution with groups: lora_A {a.Text()} reads {a[1]} input channels, the weight only {weight.Shape[1]}, so it cannot hold the delta";
        }

        return $"lora_A {a.Text()} and lora_B {b.Text()} do not make a delta for the convolution {weight.Name} {weight.Shape.Text()}";
    }
}
