using System.Text.Json;
using System.Text.Json.Nodes;
using UnslothMerge.Adapters.Terms;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>
/// Trained token rows: some rows of an embedding or head are replaced; the config says which.
/// Source: PEFT 0.21, <c>TrainableTokensLayer</c>, on its own (<c>TRAINABLE_TOKENS</c>) or in a LoRA (<c>trainable_token_indices</c>).
/// </summary>
/// <param name="peftType">The type of adapter that holds them.</param>
/// <param name="option">The config's member with the indices: a list, or a list for each module.</param>
public sealed class TrainedTokens(string peftType, string option) : AdapterKind
{
    private const string Rows = "trainable_tokens_delta";

    /// <inheritdoc/>
    public override string Name => "TrainedTokens";

    /// <inheritdoc/>
    public override string PeftType => peftType;

    /// <inheritdoc/>
    public override IReadOnlyList<string> Parts { get; } = [Rows];

    /// <inheritdoc/>
    public override bool Bind(ModuleAdapter module, IAdapterTarget target)
    {
        if (target.Find(module.Module, "weight") is not { } weight)
        {
            return false;
        }

        var rows = module.Find(Rows)!;
        if (weight.Shape.Count != 2 || rows.Shape.Count != 2 || rows.Shape[1] != weight.Shape[1])
        {
            target.Problem(rows, $"{rows.Shape.Text()} are not rows of {weight.Name} {weight.Shape.Text()}");
        }
        else if (Indices(module) is not { } indices || indices.Count != rows.Shape[0])
        {
            target.Problem(rows, $"it has {rows.Shape[0]} rows, but {option} in adapter_config.json gives {module.Module} {Indices(module)?.Count.ToString(System.Globalization.CultureInfo.InvariantCulture) ?? "no"} token indices");
        }
        else if (indices.Any(i => i < 0 || i >= weight.Shape[0]) || indices.Distinct().Count() != indices.Count)
        {
            target.Problem(rows, $"{option} in adapter_config.json must name different rows of {weight.Name}, from 0 to {weight.Shape[0] - 1}");
        }
        else
        {
            target.Add(weight, module.Module, new RowReplacementTerm(Name, rows, indices));
        }

        return true;
    }

    private List<long>? Indices(ModuleAdapter module)
    {
        var node = module.Config.Json[option];
        if (node is JsonObject byModule)
        {
            // PEFT takes a key as the end of a module's name.
            node = byModule.Where(p => module.Module == p.Key || module.Module.EndsWith("." + p.Key, StringComparison.Ordinal))
                .OrderByDescending(p => p.Key.Length).Select(p => p.Value).FirstOrDefault();
        }

        return node is JsonArray list && list.All(v => v is JsonValue number && number.GetValueKind() == JsonValueKind.Number && number.TryGetValue(out long _))
            ? [.. list.Select(v => v!.GetValue<long>())]
            : null;
    }
}
