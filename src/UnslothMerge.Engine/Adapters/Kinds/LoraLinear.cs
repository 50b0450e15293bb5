using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>
/// LoRA on a Linear layer: W + s·BA with A [r, in] and B [out, r]; with <c>lora_bias</c> also b + s·bias.
/// Source: LoRA (arXiv 2106.09685); PEFT 0.21, <c>lora.Linear</c>.
/// </summary>
public sealed class LoraLinear : AdapterKind
{
    private const string A = "lora_A.weight";
    private const string B = "lora_B.weight";
    private const string Bias = "lora_B.bias";

    /// <inheritdoc/>
    public override string Name => "LoRA";

    /// <inheritdoc/>
    public override string PeftType => "LORA";

    /// <inheritdoc/>
    public override IReadOnlyList<string> Parts => [A, B, Bias];

    /// <inheritdoc/>
    public override bool Bind(ModuleAdapter module, IAdapterTarget target)
    {
        if (target.Find(module.Module, "weight") is not { } weight)
        {
            return false;
        }

        if (module.Find(A) is { } a && module.Find(B) is { } b)
        {
            BindPair(module, target, weight, a, b);
            return true;
        }

        foreach (var (part, tensor) in module.Tensors)
        {
            target.Problem(tensor, $"the module {module.Module} has no {(part == A ? B : A)}, without which its {part} means nothing");
        }

        return true;
    }

    private void BindPair(ModuleAdapter module, IAdapterTarget target, TargetTensor weight, StoredTensor a, StoredTensor b)
    {
        if (Misfit(module, weight, a, b) is { } reason)
        {
            foreach (var tensor in module.Tensors.Values)
            {
                target.Problem(tensor, reason);
            }

            return;
        }

        var scaling = module.Config.ScalingOf(module.Module, (int)a.Shape[0]);
        target.Add(weight, module.Module, new LowRankTerm(Name, new FactorMatrix(b, Transposed: false), new FactorMatrix(a, Transposed: false), scaling));
        if (module.Find(Bias) is { } bias)
        {
            BindBias(module, target, bias, b.Shape[0], scaling);
        }
    }

    private void BindBias(ModuleAdapter module, IAdapterTarget target, StoredTensor bias, long outputs, double scaling)
    {
        if (target.Find(module.Module, "bias") is not { } tensor)
        {
            target.Problem(bias, $"{module.Module} has no bias in the base that it could be added to");
        }
        else if (!bias.Shape.SequenceEqual([outputs]) || tensor.Shape.Count() != outputs)
        {
            target.Problem(bias, $"{bias.Shape.Text()} does not fit {tensor.Name} {tensor.Shape.Text()}");
        }
        else
        {
            target.Add(tensor, module.Module, new VectorTerm(Name, bias, scaling));
        }
    }

    private static string? Misfit(ModuleAdapter module, TargetTensor weight, StoredTensor a, StoredTensor b)
    {
        if (a.Shape.Count != 2 || b.Shape.Count != 2 || a.Shape[0] != b.Shape[1] || a.Shape[0] < 1)
        {
            return $"lora_A {a.Shape.Text()} and lora_B {b.Shape.Text()} are not [rank, in] and [out, rank] of one rank";
        }

        var rank = a.Shape[0];
        if (module.Config.RankOf(module.Module) is { } expected && expected != rank)
        {
            return $"its rank is {rank}, but adapter_config.json gives {module.Module} the rank {expected}";
        }

        long[] delta = [b.Shape[0], a.Shape[1]];
        return weight.Shape.SequenceEqual(delta) ? null : $"the delta is {delta.Text()}, the weight {weight.Name} is {weight.Shape.Text()}";
    }
}
