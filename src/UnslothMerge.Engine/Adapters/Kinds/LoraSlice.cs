using UnslothMerge.Adapters.Terms;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>
/// LoRA on a Linear layer whose weight the base keeps in one tensor with others: one expert of many (adapters of transformers 4, or of Unsloth's
/// split gpt-oss), or one projection of three. The delta s·BA goes into its slice. Source: transformers 5, <c>conversion_mapping.py</c>.
/// </summary>
public sealed class LoraSlice : AdapterKind
{
    private const string A = "lora_A.weight";
    private const string B = "lora_B.weight";

    /// <inheritdoc/>
    public override string Name => "LoRA";

    /// <inheritdoc/>
    public override string PeftType => "LORA";

    /// <inheritdoc/>
    public override IReadOnlyList<string> Parts { get; } = [A, B];

    /// <inheritdoc/>
    public override bool Bind(ModuleAdapter module, IAdapterTarget target)
    {
        if (module.Find(A) is not { Shape.Count: 2 } a || module.Find(B) is not { Shape.Count: 2 } b || target.Find(module.Module, "weight") is not null)
        {
            return false;
        }

        foreach (var place in ExpertLayout.Fused(module.Module, target.ModelTypes))
        {
            if (target.Parameters(place.Module).GetValueOrDefault(place.Parameter) is { } fused && fused.Shape.Count == (place.Expert is null ? 2 : 3))
            {
                if (Place(module, target, place, fused, a, b) is { } reason)
                {
                    target.Problem(a, reason);
                    target.Problem(b, reason);
                }

                return true;
            }
        }

        return false;
    }

    private string? Place(ModuleAdapter module, IAdapterTarget target, FusedPlace place, TargetTensor fused, StoredTensor a, StoredTensor b)
    {
        var rank = a.Shape[0];
        var (experts, rows, columns) = (place.Expert is null ? 1 : fused.Shape[0], fused.Shape[^2], fused.Shape[^1]);
        var expert = place.Expert ?? 0;
        var (inputs, outputs) = (a.Shape[1], b.Shape[0]);
        if (rank != b.Shape[1] || rank < 1)
        {
            return $"lora_A {a.Shape.Text()} and lora_B {b.Shape.Text()} are not [rank, in] and [out, rank] of one rank";
        }

        if (module.Config.RankOf(module.Module) is { } expected && expected != rank)
        {
            return $"its rank is {rank}, but adapter_config.json gives {module.Module} the rank {expected}";
        }

        if (expert >= experts)
        {
            return $"{fused.Name} holds {experts} experts, so there is no {module.Module}";
        }

        if (module.Config.IsSet("use_dora"))
        {
            return $"DoRA (use_dora) on a module that shares {fused.Name} with others is not supported";
        }

        if (place.Count > 1 && target.ModelTypes.Contains("gpt_oss"))
        {
            return $"{fused.Name} interleaves gate and up, so {module.Module} has no slice of its own in it";
        }

        var plain = rows == place.Count * outputs && columns == inputs;
        var transposed = place.Expert is not null && rows == inputs && columns == place.Count * outputs;
        if (!plain && !transposed)
        {
            return $"the delta is [{outputs}, {inputs}], and {fused.Name} {fused.Shape.Text()} does not hold {place.Count} of them{(place.Expert is null ? "" : " per expert")}";
        }

        if (plain && transposed)
        {
            // Models that do not say otherwise keep [out, in].
            transposed = ExpertLayout.IsStoredTransposed(target, place.Module) ?? false;
        }

        var scaling = module.Config.ScalingOf(module.Module, (int)rank);
        var term = transposed
            ? new LowRankTerm(Name, new FactorMatrix(a, Transposed: true), new FactorMatrix(b, Transposed: true), scaling, new MatrixPlace(expert * rows, checked((int)(place.Index * outputs))))
            : new LowRankTerm(Name, new FactorMatrix(b, Transposed: false), new FactorMatrix(a, Transposed: false), scaling, new MatrixPlace((expert * rows) + (place.Index * outputs), 0));
        target.Add(fused, module.Module, term);
        return null;
    }
}
