using UnslothMerge.Adapters.Terms;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>
/// LoRA on a Linear layer whose weight the base keeps in one tensor with others: one expert of many (adapters of transformers 4, or of
/// Unsloth's split gpt-oss), or one projection of three. The delta s·BA goes into its slice. Source: transformers 5,
/// <c>conversion_mapping.py</c>.
/// </summary>
internal sealed class LoraSlice() : AdapterKind("LoRA", "LORA", [A, B])
{
    private const string A = "lora_A.weight";
    private const string B = "lora_B.weight";

    protected override ModuleChanges? Changes(AdaptedModule module)
    {
        if (module.Find(A) is not { Shape.Count: 2 } a || module.Find(B) is not { Shape.Count: 2 } b
            || module.FindParameter("weight") is not null)
        {
            return null;
        }

        foreach (var place in ExpertLayout.Fused(module.Name, module.Base.ModelTypes))
        {
            if (module.Base.Find(place.Module, place.Parameter) is { } fused && fused.Shape.Count == (place.Expert is null ? 2 : 3))
            {
                return new ModuleChanges(new TensorChange(fused, Delta(module, place, fused, a, b)));
            }
        }

        return null;
    }

    private LowRankTerm Delta(AdaptedModule module, FusedPlace place, TargetTensor fused, StoredTensor a, StoredTensor b)
    {
        var (experts, rows, columns) = (place.Expert is null ? 1 : fused.Shape[0], fused.Shape[^2], fused.Shape[^1]);
        var expert = place.Expert ?? 0;
        var (inputs, outputs) = (a.Shape[1], b.Shape[0]);
        AdaptedModule.Require(
            a.Shape[0] == b.Shape[1] && a.Shape[0] > 0,
            $"lora_A {a.Shape.Text()} and lora_B {b.Shape.Text()} are not [rank, in] and [out, rank] of one rank");
        var rank = module.RequireRank(a.Shape[0]);
        AdaptedModule.Require(expert < experts, $"{fused.Name} holds {experts} experts, so there is no {module.Name}");
        AdaptedModule.Require(
            !module.Config.IsSet("use_dora"), $"DoRA (use_dora) on a module that shares {fused.Name} with others is not supported");
        AdaptedModule.Require(
            place.Count == 1 || !module.Base.ModelTypes.Contains("gpt_oss"),
            $"{fused.Name} interleaves gate and up, so {module.Name} has no slice of its own in it");
        var plain = rows == place.Count * outputs && columns == inputs;
        var transposed = place.Expert is not null && rows == inputs && columns == place.Count * outputs;
        AdaptedModule.Require(
            plain || transposed,
            $"the delta is [{outputs}, {inputs}], and {fused.Name} {fused.Shape.Text()} does not hold {place.Count} of "
            + $"them{(place.Expert is null ? "" : " per expert")}");
        if (plain && transposed)
        {
            // Models that do not say otherwise keep [out, in].
            transposed = ExpertLayout.IsStoredTransposed(module.Base, place.Module) ?? false;
        }

        var scaling = module.Config.ScalingOf(module.Name, rank);
        return transposed
            ? new LowRankTerm(
                Name, new FactorMatrix(a, Transposed: true), new FactorMatrix(b, Transposed: true), scaling,
                new MatrixPlace(expert * rows, checked((int)(place.Index * outputs))))
            : new LowRankTerm(
                Name, new FactorMatrix(b, Transposed: false), new FactorMatrix(a, Transposed: false), scaling,
                new MatrixPlace((expert * rows) + (place.Index * outputs), 0));
    }
}
