using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>Trained token rows: some rows of an embedding or head are replaced; the config says which. Source: PEFT 0.21,
/// <c>TrainableTokensLayer</c>, on its own (<c>TRAINABLE_TOKENS</c>) or in a LoRA (<c>trainable_token_indices</c>). The option is the
/// config's member with the indices: a list, or a list for each module.</summary>
internal sealed class TrainedTokens(string peftType, string option) : WeightKind("TrainedTokens", peftType, [Rows])
{
    private const string Rows = "trainable_tokens_delta";

    protected override ModuleChanges Changes(AdaptedModule module, TargetTensor weight)
    {
        var rows = module.Part(Rows);
        AdaptedModule.Require(
            weight.Shape.Count == 2 && rows.Shape.Count == 2 && rows.Shape[1] == weight.Shape[1],
            $"{rows.Shape.Text()} are not rows of {weight.Name} {weight.Shape.Text()}");
        var indices = Indices(module);
        AdaptedModule.Require(
            indices?.Count == rows.Shape[0],
            $"it has {rows.Shape[0]} rows, but {option} in adapter_config.json gives {module.Name} "
            + $"{indices?.Count.ToString(System.Globalization.CultureInfo.InvariantCulture) ?? "no"} token indices");
        AdaptedModule.Require(
            indices!.TrueForAll(i => i >= 0 && i < weight.Shape[0]) && indices.Distinct().Count() == indices.Count,
            $"{option} in adapter_config.json must name different rows of {weight.Name}, from 0 to {weight.Shape[0] - 1}");
        return new ModuleChanges(new TensorChange(weight, new RowReplacementTerm(Name, rows, indices)));
    }

    private List<long>? Indices(AdaptedModule module)
    {
        var node = module.Config.Json[option];
        if (node is JsonObject byModule)
        {
            // PEFT takes a key as the end of a module's name.
            node = byModule.Where(p => module.Name == p.Key || module.Name.EndsWith("." + p.Key, StringComparison.Ordinal))
                .OrderByDescending(p => p.Key.Length).Select(p => p.Value).FirstOrDefault();
        }

        return node is JsonArray list
            && list.All(v => v is JsonValue number && number.GetValueKind() == JsonValueKind.Number && number.TryGetValue(out long _))
            ? [.. list.Select(v => v!.GetValue<long>())]
            : null;
    }
}
