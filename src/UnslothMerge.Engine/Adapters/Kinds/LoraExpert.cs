using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>
/// LoRA on the Linear layer of one expert (transformers 4, or Unsloth's split gpt-oss) over a base that keeps all experts in one tensor:
/// the delta s·BA goes into the expert's slice. Source: transformers 5, <c>conversion_mapping.py</c>.
/// </summary>
public sealed class LoraExpert : AdapterKind
{
    private const string A = "lora_A.weight";
    private const string B = "lora_B.weight";

    /// <inheritdoc/>
    public override string Name => "LoRA";

    /// <inheritdoc/>
    public override string PeftType => "LORA";

    /// <inheritdoc/>
    public override IReadOnlyList<string> Parts => [A, B];

    /// <inheritdoc/>
    public override bool Bind(ModuleAdapter module, IAdapterTarget target)
    {
        if (module.Find(A) is not { Shape.Count: 2 } a || module.Find(B) is not { Shape.Count: 2 } b || target.Find(module.Module, "weight") is not null)
        {
            return false;
        }

        foreach (var part in ExpertLayout.Fused(module.Module))
        {
            if (target.Parameters(part.Module).GetValueOrDefault(part.Parameter) is { Shape.Count: 3 } fused)
            {
                if (Place(module, target, part, fused, a, b) is { } reason)
                {
                    target.Problem(a, reason);
                    target.Problem(b, reason);
                }

                return true;
            }
        }

        return false;
    }

    private string? Place(ModuleAdapter module, IAdapterTarget target, ExpertModule part, TargetTensor fused, StoredTensor a, StoredTensor b)
    {
        var rank = a.Shape[0];
        var (experts, rows, columns) = (fused.Shape[0], fused.Shape[1], fused.Shape[2]);
        var (inputs, outputs) = (a.Shape[1], b.Shape[0]);
        if (rank != b.Shape[1] || rank < 1)
        {
            return $"lora_A {a.Shape.Text()} and lora_B {b.Shape.Text()} are not [rank, in] and [out, rank] of one rank";
        }

        if (module.Config.RankOf(module.Module) is { } expected && expected != rank)
        {
            return $"its rank is {rank}, but adapter_config.json gives {module.Module} the rank {expected}";
        }

        if (part.Expert >= experts)
        {
            return $"{fused.Name} holds {experts} experts, so there is no {module.Module}";
        }

        if (module.Config.IsSet("use_dora"))
        {
            return $"DoRA (use_dora) on an expert that shares {fused.Name} with the others is not supported";
        }

        if (part.Count > 1 && target.ModelTypes.Contains("gpt_oss"))
        {
            return $"{fused.Name} interleaves gate and up, so {module.Module} has no slice of its own in it";
        }

        var plain = rows == part.Count * outputs && columns == inputs;
        var transposed = rows == inputs && columns == part.Count * outputs;
        if (!plain && !transposed)
        {
            return $"the delta is [{outputs}, {inputs}], of which {fused.Name} {fused.Shape.Text()} should hold {part.Count} per expert";
        }

        if (plain && transposed)
        {
            transposed = ExpertLayout.IsStoredTransposed(target, part.Module) ?? false;
        }

        var scaling = module.Config.ScalingOf(module.Module, (int)rank);
        var term = transposed
            ? new LowRankTerm(Name, new FactorMatrix(a, Transposed: true), new FactorMatrix(b, Transposed: true), scaling, new MatrixPlace(part.Expert * rows, checked((int)(part.Index * outputs))))
            : new LowRankTerm(Name, new FactorMatrix(b, Transposed: false), new FactorMatrix(a, Transposed: false), scaling, new MatrixPlace((part.Expert * rows) + (part.Index * outputs), 0));
        target.Add(fused, module.Module, term);
        return null;
    }
}
