namespace UnslothMerge.Adapters;

/// <summary>How the columns of a fused expert adapter's B are arranged: as the caller says, or the adapter, or by Unsloth's own rule for
/// its adapters that do not say it. What Unsloth writes of a parameter counts before what it writes of the adapter; either may stand in
/// auto_mapping. Source: Unsloth 2026.10.</summary>
internal static class MoeLayouts
{
    // The model types whose experts Unsloth groups where nothing is written.
    private static readonly string[] Grouped =
    [
        "deepseek_v3", "ernie4_5_moe", "ernie4_5_vl_moe", "gemma4", "glm4_moe", "glm4_moe_lite", "gpt_oss", "lfm2_moe", "mixtral",
        "qwen3_5_moe", "qwen3_moe", "qwen3_next", "qwen3_vl_moe",
    ];

    // An Unsloth that runs with this release of PEFT, or a later one, writes it where it groups.
    private static readonly Version Marks = new(0, 21);

    /// <summary>The arrangement, and what the caller should know of how it was found.</summary>
    /// <exception cref="MisfitException">The adapter says two things, or one that cannot be followed.</exception>
    public static (MoeLoraLayout Layout, string? Warning) Of(AdapterConfig config, BaseParameters model, string parameter)
    {
        if (model.MoeLoraLayout is { } given)
        {
            return (given, null);
        }

        var mapping = config.Json["auto_mapping"] as JsonObject ?? [];
        JsonObject[] places = [config.Json, mapping];
        var canBeGrouped = parameter is "gate_up_proj" or "down_proj";
        var stated = Stated(places.Select(p => ((p["unsloth_fused_expert_lora"] as JsonObject)?["parameters"] as JsonObject)?
            .FirstOrDefault(d => d.Key == parameter || d.Key.EndsWith("." + parameter, StringComparison.Ordinal)).Value as JsonObject)
            .Select(d => d?["lora_B_layout"]));
        stated = stated.Count == 0 && canBeGrouped ? Stated(places.Select(p => p["lora_B_layout"])) : stated;
        return stated switch
        {
            [] when canBeGrouped && mapping.Bool("unsloth_fixed") == true && config.TargetParameters.Count > 0 => Unmarked(config, model),
            [] or ["RANKMAJOR"] or ["PEFT"] => (MoeLoraLayout.RankMajor, null),
            ["GROUPED"] or ["GROUPEDBYEXPERT"] or ["EXPERTMAJOR"] when canBeGrouped => (MoeLoraLayout.Grouped, null),
            _ => throw new MisfitException(
                $"adapter_config.json's lora_B_layout of {parameter} is "
                + $"{string.Join(" and ", stated.Select(s => $"'{s.ToLowerInvariant()}'"))}, which cannot be followed"
                + $"{(canBeGrouped ? "" : ": only gate_up_proj and down_proj can be grouped")}; say -MoeLoraLayout RankMajor or Grouped"),
        };
    }

    private static (MoeLoraLayout Layout, string Warning) Unmarked(AdapterConfig config, BaseParameters model)
    {
        var family = Grouped.FirstOrDefault(f => model.ModelTypes.Contains(f) || model.ModelTypes.Contains(f + "_text"));
        var layout = family is null || config.PeftVersion >= Marks ? MoeLoraLayout.RankMajor : MoeLoraLayout.Grouped;
        var rule = family is null ? "that is Unsloth's own rule for this model type"
            : layout == MoeLoraLayout.Grouped ? $"that is Unsloth's own rule for {family}"
            : $"Unsloth's own rule groups it for {family} in adapters before PEFT {Marks}, and later ones say it";
        var (taken, other) = layout == MoeLoraLayout.Grouped
            ? ("grouped by expert", "RankMajor") : ("rank by rank, as PEFT does", "Grouped");
        return (layout,
            $"The adapter was trained with Unsloth and does not say how lora_B of its experts is arranged. It is taken {taken}: {rule}. If "
            + $"it was trained otherwise, say -MoeLoraLayout {other}.");
    }

    private static List<string> Stated(IEnumerable<JsonNode?> values) =>
        [.. values.OfType<JsonNode>().Select(v => v.ToString().Replace("_", "").Replace("-", "").ToUpperInvariant())
            .Where(v => v.Length > 0).Distinct()];
}
