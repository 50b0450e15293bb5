namespace UnslothMerge.Adapters;

/// <summary>What makes an adapter one that this program cannot merge. Each refusal is a row of the table: when it holds, why, and what to do.</summary>
public static class AdapterRefusals
{
    private static readonly (Func<AdapterConfig, bool> Holds, string Why)[] Table =
    [
        (c => !AdapterKinds.Table.Any(k => k.PeftType == c.PeftType), "adapters of this kind are not supported"),
        (c => c.IsSet("use_qalora"), "QALoRA (use_qalora) pools its input, which no weight can express"),
        (c => c.IsSet("alora_invocation_tokens"), "aLoRA (alora_invocation_tokens) acts on some tokens only, which no weight can express"),
        (c => c.IsSet("arrow_config"), "Arrow (arrow_config) routes by input, which no weight can express"),
        (c => c.IsSet("layer_replication"), "layer replication (layer_replication) is not supported"),
    ];

    // Initialisations that take the adapter's start out of the base: PiSSA, OLoRA, CorDA, LoRA-GA. PiSSA's name may go on with a count of iterations.
    private static readonly string[] ResidualStarts = ["pissa", "olora", "corda", "lora_ga"];

    /// <summary>Refuses an adapter that cannot be merged, with all reasons.</summary>
    /// <param name="adapter">The adapter.</param>
    /// <param name="baseIsResidual">True if the caller says that the base is the residual one that belongs to the adapter.</param>
    /// <exception cref="MergeException">It cannot.</exception>
    public static void Check(AdapterDirectory adapter, bool baseIsResidual)
    {
        var reasons = Table.Where(r => r.Holds(adapter.Config)).Select(r => r.Why).ToList();
        if (!baseIsResidual && Start(adapter.Config) is { } start && ResidualStarts.Any(s => start.StartsWith(s, StringComparison.OrdinalIgnoreCase)))
        {
            reasons.Add($"its start took a part out of the base weights (init_lora_weights is '{start}'): it fits only the residual base that was saved with it; if this is that base, say so with -BaseIsResidual");
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

    /// <summary>What the caller should know about an adapter that can be merged.</summary>
    public static IEnumerable<string> Warnings(AdapterDirectory adapter)
    {
        if (string.Equals(Start(adapter.Config), "loftq", StringComparison.OrdinalIgnoreCase))
        {
            yield return $"The adapter '{adapter.Path}' was started by LoftQ, which trained it on a quantized base. Merge it into the dequantized weights of that base: on the original ones the result is another.";
        }
    }

    private static string? Start(AdapterConfig config) => config.Json["init_lora_weights"]?.ToString();
}
