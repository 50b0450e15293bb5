using System.Text.Json;
using System.Text.Json.Nodes;
using UnslothMerge.Models;

namespace UnslothMerge.Tokenizers;

/// <summary>What a tokenizer, a model's configs and its embedding say of the same tokens, and where they contradict each other.</summary>
public static class TokenIds
{
    /// <summary>The ids that a config gives a special token; a model may end at several.</summary>
    /// <param name="config">config.json or generation_config.json.</param>
    /// <param name="role"><c>eos</c>, <c>bos</c> or <c>pad</c>.</param>
    public static IReadOnlyList<long> Of(JsonObject config, string role) => (config[$"{role}_token_id"] ?? (config["text_config"] as JsonObject)?[$"{role}_token_id"]) switch
    {
        JsonArray list => [.. list.OfType<JsonValue>().Where(IsNumber).Select(v => (long)v.GetValue<double>())],
        JsonValue value when IsNumber(value) => [(long)value.GetValue<double>()],
        _ => [],
    };

    /// <summary>Everything that does not agree, one sentence each.</summary>
    /// <param name="tokenizer">The tokenizer.</param>
    /// <param name="configs">The configs by file name: config.json, and generation_config.json if there is one.</param>
    /// <param name="rows">The rows of the embedding; null if they are not known.</param>
    public static IReadOnlyList<string> Problems(ModelTokenizer tokenizer, IReadOnlyDictionary<string, JsonObject> configs, long? rows)
    {
        var problems = new List<string>();
        if (tokenizer.LargestId >= rows)
        {
            var beyond = tokenizer.Added.Where(t => t.Key >= rows).ToList();
            var names = beyond.Count == 0 ? "" : $": {string.Join(", ", beyond.Take(3).Select(t => $"'{t.Value}' ({t.Key})"))}{(beyond.Count > 3 ? $" and {beyond.Count - 3} more" : "")}";
            problems.Add($"The tokenizer has tokens up to the id {tokenizer.LargestId}, but the embedding has {rows} rows. The model cannot read the tokens beyond{names}. If the adapter was trained with them, it was saved without its embedding.");
        }

        foreach (var token in tokenizer.Special)
        {
            if (token.Id is not { } id)
            {
                problems.Add($"The tokenizer's {token.Role} token '{token.Text}' is not in its vocabulary.");
                continue;
            }

            problems.AddRange(configs.Where(c => Of(c.Value, token.Role) is { Count: > 0 } ids && !ids.Contains(id)).Select(c =>
                $"The tokenizer's {token.Role} token is '{token.Text}' ({id}), but {c.Key} says {string.Join(", ", Of(c.Value, token.Role))}.{(token.Role == "eos" ? " Generation may not end." : "")}"));
        }

        return problems;
    }

    private static bool IsNumber(JsonValue value) => value.GetValueKind() == JsonValueKind.Number;
}
