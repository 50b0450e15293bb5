using UnslothMerge.Adapters;
using UnslothMerge.Adapters.Kinds;

namespace UnslothMerge.Planning;

/// <summary>What the caller should know about an adapter that can be merged: that only a certain base is right for it, or that something in
/// it has no effect.</summary>
internal static class AdapterWarnings
{
    // The options of PEFT's LoRA, and those that trainers add, that may be true without a change of the merge that is not known here.
    private static readonly HashSet<string> TrueOptions = new(StringComparer.Ordinal)
    {
        "inference_mode", "init_lora_weights", "fan_in_fan_out", "use_rslora", "use_dora", "lora_bias", "ensure_weight_tying", "use_bdlora",
        "use_qalora", "nvfp4_merge_aware", "moe_rank_scaling", "unsloth_fixed",
    };

    private static readonly string[] Patterns = ["rank_pattern", "alpha_pattern"];

    // When a row holds for an adapter that was placed in a plan, and what it says after the adapter's path.
    private static readonly (Func<AdapterDirectory, PlanDraft, bool> Holds, string Text)[] Table =
    [
        ((a, _) => string.Equals(AdapterRefusals.Start(a.Config), "loftq", StringComparison.OrdinalIgnoreCase),
            "was started by LoftQ, which trained it on a quantized base. Merge it into the dequantized weights of that base: on the "
            + "original ones the result is another."),
        ((a, _) => a.Config.ScalesExpertRanks,
            "gives experts a rank of their own (moe_rank_scaling): alpha is divided by the rank of their tensors, not by that of the "
            + "config."),
        ((a, _) => a.Config.IsSet("nvfp4_merge_aware"),
            "was trained for a merge into NVFP4 whose block scales are computed anew (nvfp4_merge_aware). In other formats the result is "
            + "not the one that was trained."),
        ((a, p) => p.Config.ModelTypes.Contains("falcon_h1") && p.Base.Config.Quantization is null
                && a.Config.BaseModel is { } name && NamedBase.NamesQuantized(name),
            "was trained on a quantized falcon_h1, and Unsloth merges such adapters into the dequantized base. Pass that as the base."),
        ((a, p) => a.Config.TargetParameters.Count > 0
                && p.Tensors.Any(t => t.Source.Format == "FP8" && t.Shape.Count > 2 && t.Adapters.Contains(p.Steps[^1].Name)),
            "has target_parameters on experts that the base stores in FP8. PEFT adds such deltas to the codes, before the scales are "
            + "applied, so what was trained is not what is merged."),
    ];

    /// <summary>The warnings about an adapter, once it is placed.</summary>
    public static IEnumerable<MergeWarning> Of(AdapterDirectory adapter, PlanDraft plan) =>
    [
        .. Table.Where(r => r.Holds(adapter, plan)).Select(
            r => new MergeWarning(MergeWarningId.TrainedOtherwise, $"The adapter '{adapter.Path}' {r.Text}")),
        .. Listed(
            MergeWarningId.UnusedPattern, UnusedKeys(adapter), ("matches", "match"),
            "{0} of '{1}' {3} no module of the adapter: {2}. Their ranks or alphas have no effect."),
        .. Listed(
            MergeWarningId.UnknownOption, UnknownOptions(adapter), ("is", "are"),
            "{0} of '{1}' {3} true, but not known: {2}. If they change the deltas, the merge is wrong."),
        .. Listed(
            MergeWarningId.ZeroFactor, ZeroFactors(adapter), ("holds", "hold"),
            "{0} of '{1}' {3} zeros only: {2}. These modules stay as they are in the base."),
    ];

    private static IEnumerable<MergeWarning> Listed(
        MergeWarningId id, (string What, AdapterDirectory Adapter, List<string> Names) found, (string One, string Many) verb,
        string text) =>
        found.Names.Count == 0 ? []
        : [new MergeWarning(id, string.Format(CultureInfo.InvariantCulture, text, Amount.Text(found.Names.Count, found.What),
            found.Adapter.Path, string.Join(", ", found.Names.Take(3)) + (found.Names.Count > 3 ? ", …" : ""),
            found.Names.Count == 1 ? verb.One : verb.Many))];

    private static (string, AdapterDirectory, List<string>) UnusedKeys(AdapterDirectory adapter)
    {
        var keys = Patterns.Select(adapter.Config.KeysOf).OfType<ModuleKeys>().ToList();
        var modules = keys.Count == 0 ? [] : adapter.Tensors.Select(t => AdapterNames.Parse(t.Name).Module).Distinct().ToList();

        // A parameter of experts is matched with its own name.
        string[] parameters = ["gate_up_proj", "down_proj", .. TargetsOf(adapter)];
        List<string> names = [.. modules, .. modules.SelectMany(m => parameters.Select(p => $"{m}.{p}"))];
        return ("pattern key", adapter, [.. keys.SelectMany(k => k.Unused(names))]);
    }

    private static IEnumerable<string> TargetsOf(AdapterDirectory adapter) =>
        adapter.Config.TargetParameters.Select(p => p[(p.LastIndexOf('.') + 1)..]).Distinct().Take(Limits.Patterns);

    private static (string, AdapterDirectory, List<string>) UnknownOptions(AdapterDirectory adapter) => ("option", adapter,
        adapter.Config.PeftType != "LORA" ? []
        : [.. adapter.Config.Json.Select(o => o.Key).Where(k => adapter.Config.Json.Bool(k) == true && !TrueOptions.Contains(k))]);

    private static (string, AdapterDirectory, List<string>) ZeroFactors(AdapterDirectory adapter)
    {
        using var files = new InputFiles();
        return ("lora_B", adapter,
            [.. adapter.Tensors.Where(t => AdapterNames.Parse(t.Name).Part is LoraLayer.B or "lora_embedding_B"
                && SameValues.IsZero(files, t)).Select(t => t.Name)]);
    }
}
