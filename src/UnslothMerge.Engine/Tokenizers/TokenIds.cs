namespace UnslothMerge.Tokenizers;

/// <summary>What a tokenizer, a model's configs and its embedding say of the same tokens, and where they contradict each other.</summary>
internal static class TokenIds
{
    /// <summary>The name of the model's own config.</summary>
    public const string ModelConfigName = "config.json";

    public const string GenerationConfigName = "generation_config.json";

    /// <summary>The ids that config.json or generation_config.json gives a special token (<c>eos</c>, <c>bos</c> or <c>pad</c>); a model
    /// may end at several.</summary>
    public static IReadOnlyList<long> Of(JsonObject config, string role) =>
        (config[Key(role)] ?? (config["text_config"] as JsonObject)?[Key(role)]) switch
    {
        JsonArray list => [.. list.OfType<JsonValue>().Where(IsNumber).Select(Number)],
        JsonValue value when IsNumber(value) => [Number(value)],
        _ => [],
    };

    /// <summary>Everything that does not agree between a tokenizer, the configs by file name, and the rows of the embedding (null if not
    /// known), and a text that does not come back, one sentence each.</summary>
    public static IReadOnlyList<string> Problems(ModelTokenizer tokenizer, IReadOnlyDictionary<string, JsonObject> configs, long? rows)
    {
        var problems = new List<string>();
        if (tokenizer.LargestId >= rows)
        {
            var beyond = tokenizer.Added.Where(t => t.Key >= rows).ToList();
            var names = string.Join(", ", beyond.Take(3).Select(t => $"'{t.Value}' ({t.Key})"));
            var more = beyond.Count > 3 ? $" and {beyond.Count - 3} more" : "";
            problems.Add(
                $"The tokenizer has tokens up to the id {tokenizer.LargestId}, but the embedding has {rows} rows. "
                + $"The model cannot read the tokens beyond{(beyond.Count == 0 ? "" : $": {names}{more}")}. "
                + "An adapter that was trained with new tokens must be saved with its embedding.");
        }

        foreach (var token in tokenizer.Special)
        {
            if (token.Id is not { } id)
            {
                problems.Add($"The tokenizer's {token.Role} token '{token.Text}' is not in its vocabulary.");
                continue;
            }

            var effect = token.Role == "eos" ? " Generation may not end." : "";
            problems.AddRange(configs.Where(c => Of(c.Value, token.Role) is { Count: > 0 } ids && !ids.Contains(id)).Select(c =>
                $"The tokenizer's {token.Role} token is '{token.Text}' ({id}), but {c.Key} says "
                + $"{string.Join(", ", Of(c.Value, token.Role))}.{effect}"));
        }

        if (tokenizer.RoundTrip(rows) is { Passed: false } failed)
        {
            problems.Add(failed.Detail);
        }

        return problems;
    }

    /// <summary>Makes configs (by file name, edited) follow a tokenizer that is not the base's own: what ends a text, begins it or fills it
    /// up is what the adapter was trained with. As transformers' trainer does, another eos comes before those that end a generation
    /// already, and other ids take the place of what is stated; an id beyond the rows of the embedding (null if not known) is left out.
    /// Gives a sentence for each change, with its file.</summary>
    public static IReadOnlyList<(string File, string Note)> Align(
        ModelTokenizer tokenizer, IReadOnlyDictionary<string, JsonObject> configs, long? rows)
    {
        var notes = new List<(string, string)>();
        foreach (var (file, config) in configs)
        {
            foreach (var token in tokenizer.Special.Where(t => t.Id < (rows ?? long.MaxValue)))
            {
                var old = Of(config, token.Role);
                if (old.Count == 0 || old.Contains(token.Id!.Value))
                {
                    continue;
                }

                // Where there is a generation config, the other one names the tokenizer's only.
                var endsToo = token.Role == "eos" && (file != ModelConfigName || configs.Count == 1);
                long[] ids = endsToo ? [token.Id.Value, .. old] : [token.Id.Value];
                var parts = new[] { config, config["text_config"] as JsonObject }.OfType<JsonObject>();
                foreach (var part in parts.Where(p => p[Key(token.Role)] is not null))
                {
                    part[Key(token.Role)] = ids.Length == 1 ? ids[0] : new JsonArray([.. ids.Select(i => (JsonNode)i)]);
                }

                // Else transformers derives it from config.json once more.
                config.Remove("_from_model_config");
                notes.Add((
                    file,
                    $"{file} now says {Key(token.Role)} {string.Join(", ", ids)} instead of {string.Join(", ", old)}: "
                    + $"the tokenizer of '{Path.GetDirectoryName(tokenizer.Path)}' has '{token.Text}'."));
            }
        }

        return notes;
    }

    private static string Key(string role) => $"{role}_token_id";

    private static long Number(JsonValue value) => value.TryGetValue(out long id) ? id : (long)value.GetValue<double>();

    private static bool IsNumber(JsonValue value) => value.GetValueKind() == JsonValueKind.Number;
}
