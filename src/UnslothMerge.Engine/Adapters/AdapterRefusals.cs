namespace UnslothMerge.Adapters;

/// <summary>What makes an adapter one that this program cannot merge. A kind is refused by a row of the first table, a setting by a row of
/// the second.</summary>
internal static class AdapterRefusals
{
    private const string VirtualTokens = "it puts trained tokens before the input, which no weight can express";
    private const string VirtualCache = "it puts trained keys and values before those of the input, which no weight can express";
    private const string Routes = "it mixes its parts by the input, which no weight can express";

    // Kinds that cannot be merged, whatever their config.
    private static readonly (string PeftType, string Why)[] Kinds =
    [
        ("PROMPT_TUNING", VirtualTokens),
        ("MULTITASK_PROMPT_TUNING", VirtualTokens),
        ("P_TUNING", VirtualTokens),
        ("CPT", VirtualTokens),
        ("PREFIX_TUNING", VirtualCache),
        ("CARTRIDGE", VirtualCache),
        ("ADAPTION_PROMPT", "it adds a gated attention over trained prompts, which no weight can express"),
        ("XLORA", Routes),
        ("POLY", "it mixes its parts by the task of each input, which no weight can express"),
        ("LILY", Routes),
        ("ADAMSS", "the rows that its parts change come from a clustering (scikit-learn's KMeans) that is not saved"),
        ("PSOFT", "it works in singular vectors of the base's weights that are not saved, and their signs are a matter of chance"),
    ];

    // Settings that cannot be merged: when the refusal holds, and why.
    private static readonly (Func<AdapterConfig, bool> Holds, string Why)[] Table =
    [
        .. Kinds.Select(k => ((Func<AdapterConfig, bool>)(c => c.PeftType == k.PeftType), k.Why)),
        (c => !AdapterKinds.Table.Any(k => k.PeftType == c.PeftType) && !Kinds.Any(k => k.PeftType == c.PeftType),
            "adapters of this kind are not known"),
        (c => c.PeftType == "FROD" && c.Flag("save_projection") == false, "its projections were not saved (save_projection is false)"),
        (c => c.PeftType is "VERA" or "PVERA" or "RANDLORA" or "TINYLORA" && c.Flag("save_projection") == false,
            "its random projections were not saved (save_projection is false)"),
        (c => c.PeftType == "PVERA" && c.IsSet("sample_at_inference"),
            "it draws random numbers in every forward pass (sample_at_inference), which no weight can express"),
        (c => c.PeftType == "UNILORA" && c.Flag("save_indices") != true, "UNILORA's indices were not saved (save_indices is false)"),
        (c => c.PeftType == "SUPERTUNING" && c.Flag("save_precomputed_indices") == false,
            "its indices were not saved (save_precomputed_indices is false)"),
        (c => c.IsSet("alora_invocation_tokens"), "aLoRA (alora_invocation_tokens) acts on some tokens only, which no weight can express"),
        (c => c.IsSet("arrow_config"), "Arrow (arrow_config) routes by input, which no weight can express"),
    ];

    // Initialisations that take the adapter's start out of the base: PiSSA, OLoRA, CorDA, LoRA-GA. PiSSA's name may go on with a count of
    // iterations.
    private static readonly string[] ResidualStarts = ["pissa", "olora", "corda", "lora_ga"];

    /// <summary>Refuses an adapter that cannot be merged, with all reasons; the caller may say that the base is the residual one that
    /// belongs to it.</summary>
    public static void Check(AdapterDirectory adapter, bool baseIsResidual)
    {
        var reasons = Table.Where(r => r.Holds(adapter.Config)).Select(r => r.Why).ToList();
        if (!baseIsResidual && Start(adapter.Config) is { } start
            && ResidualStarts.Any(s => start.StartsWith(s, StringComparison.OrdinalIgnoreCase)))
        {
            reasons.Add(
                $"its start took a part out of the base weights (init_lora_weights is '{start}'): it fits only the residual base that was "
                + "saved with it; if this is that base, say so with -BaseIsResidual");
        }

        if (reasons.Count > 0)
        {
            throw new MergeException(
                MergeError.UnsupportedAdapter,
                $"The adapter '{adapter.Path}' (peft_type {adapter.Config.PeftType}) cannot be merged: {string.Join("; ", reasons)}.",
                adapter.Path,
                $"Kinds that can be merged: {string.Join(", ", AdapterKinds.Table.Select(k => k.Name).Distinct())}.") { Details = reasons };
        }
    }

    /// <summary>How the adapter was initialised, where it is not as usual.</summary>
    public static string? Start(AdapterConfig config) => config.Json["init_lora_weights"]?.ToString();
}
