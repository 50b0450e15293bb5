namespace UnslothMerge.Verification.Placement;

/// <summary>What a rule of transformers does to values, and which of its sources and results a tensor is.</summary>
/// <param name="Rule">The rule; two tensors with the same one become one.</param>
/// <param name="Source">Which of its patterns the tensor's name has.</param>
/// <param name="Result">Which of its results it becomes.</param>
/// <param name="Number">The number in the place of <c>*</c>: the expert's.</param>
internal sealed record Conversion(JsonObject Rule, int Source, int Result, int? Number)
{
    /// <summary>The operations' names, each with its dimension: <c>Concatenate 1</c>.</summary>
    public IReadOnlyList<string> Operations { get; } =
        [.. Rule["operations"]!.AsArray().Select(o => $"{o!["name"]} {o["dim"] ?? o["dim0"]}".TrimEnd())];
}

/// <summary>A name that a tensor of a checkpoint has on its way to the running model.</summary>
internal sealed record Alias(string Name, Conversion? Conversion);

/// <summary>Transformers' rules from a checkpoint's names to the running model's, applied as the library documents them and not as the
/// planner does. Source: transformers 5, <c>core_model_loading.py</c>; the data of <c>transformers.json</c>.</summary>
internal sealed partial class NameRules
{
    private readonly List<Rule> _rules = [];
    private readonly IReadOnlyCollection<string> _names;

    /// <summary>Those of a class.</summary>
    /// <param name="class">Its entry in the data; null if it is not one of transformers' own.</param>
    /// <param name="name">Its name.</param>
    /// <param name="config">The model's config.json.</param>
    /// <param name="names">All names of the checkpoint.</param>
    public NameRules(JsonObject? @class, string? name, JsonObject config, IReadOnlyCollection<string> names)
    {
        _names = names;
        var (prefix, type) = (@class?.String("prefix") ?? "", config.String("model_type"));
        var lists = (@class?["scopes"] as JsonArray ?? []).Select(s => (Where: (string?)s![0], List: (string)s[1]!)).ToList();
        if (@class?.String("type") != type)
        {
            // A class that runs several model types: the whole model's list is that of the config's.
            lists =
                [.. new[] { name, type }.Where(IsList).Take(1).Select(l => ((string?)null, l!)), .. lists.Where(l => l.Where is not null)];
        }

        foreach (var (part, inner) in Inner(config).Where(m => m.Type != @class?.String("type")))
        {
            string?[] towers = part.Contains("vision", StringComparison.Ordinal) ? ["vision_tower", "vision_model", "visual"]
                : part.Contains("audio", StringComparison.Ordinal) ? ["audio_tower", "audio_model"] : [null];
            var list = new[] { (string?)TransformersData.Find("auto", "base")?[inner], inner }.FirstOrDefault(IsList);
            if (list is not null && !lists.Exists(l => l.List == list))
            {
                lists.AddRange(towers.Select(t => (t, list)));
            }
        }

        foreach (var (where, list) in lists.Append((null, "legacy")))
        {
            _rules.AddRange(((JsonArray)TransformersData.Find("rules", list)!).Select(r => new Rule((JsonObject)r!, where, prefix)));
        }
    }

    /// <summary>Every name of a tensor on its way, the checkpoint's first; and those that the running model has.</summary>
    public (List<Alias> All, List<Alias> Last) Way(string name)
    {
        var way = new List<Alias> { new(name, null) };
        List<Alias> now = [way[0]];
        foreach (var rule in _rules)
        {
            if (rule.Converts && now[0].Conversion is not null)
            {
                continue;
            }

            var next = now.SelectMany(a => rule.Apply(a, _names)).ToList();
            way.AddRange(next.Except(now));
            now = next;
        }

        return (way, now);
    }

    private static bool IsList(string? key) => key is not null && TransformersData.Find("rules", key) is not null;

    // The models inside a model, each by the key of its config.
    private static IEnumerable<(string Key, string Type)> Inner(JsonObject config) =>
        from part in config
        where part.Value is JsonObject
        from found in Inner((JsonObject)part.Value!).Prepend((part.Key, part.Value["model_type"]?.ToString()!))
        where found.Item2 is not null
        select found;

    [GeneratedRegex(@"layers\.(\d+)\.(mixer|attn_alpha|mlp_alpha)(?=\.|$)")]
    private static partial Regex LayerPair();

    private sealed class Rule
    {
        private readonly JsonObject _json;
        private readonly string _kind;
        private readonly string? _scope;
        private readonly string _prefix;
        private readonly List<(int Index, Regex Pattern)> _from;
        private readonly List<string> _to;
        private readonly Dictionary<string, bool> _present = [];

        public Rule(JsonObject json, string? scope, string prefix)
        {
            (_json, _kind, _scope, _prefix) = (json, (string)json["kind"]!, scope, prefix);
            var below = json.String("below") is { Length: > 0 } b ? $@"{b}\." : "";
            var (from, to) = _kind != "PrefixChange" ? (json.Strings("from"), json.Strings("to"))
                : json.String("add") is { } added ? ([$@"^{below}(?!{added}\.)(.+)"], [$@"{below}{added}.\1"])
                : ((string[])[$@"^{below}{json.String("remove")}\.(.+)"], (string[])[$@"{below}\1"]);
            _to = [.. to.Select(t => t.TrimStart('^').Replace(@"\.", ".", StringComparison.Ordinal))];
            _from = [.. from.Index().OrderByDescending(f => f.Item.Length).Select(f => (f.Index, new Regex(
                (from.Count == to.Count && to[f.Index].StartsWith('^') && !f.Item.StartsWith('^') ? "^" : "")
                + f.Item.Replace("*.", @"(?<number>.*)\.", StringComparison.Ordinal)
                + (char.IsLetterOrDigit(f.Item[^1]) ? @"(?!\w)" : ""), RegexOptions.CultureInvariant)))];
        }

        public bool Converts => _json["operations"] is JsonArray { Count: > 0 };

        // The names that a name becomes: itself, unless the rule holds for it.
        public IEnumerable<Alias> Apply(Alias alias, IReadOnlyCollection<string> names)
        {
            if (_kind == "LayerPairCollapse")
            {
                return [alias with { Name = LayerPair().Replace(alias.Name, Collapse) }];
            }

            var before = Before(alias.Name);
            var rest = alias.Name[(before?.Length ?? 0)..];
            var (index, match) = before is null ? default
                : _from.Select(f => (f.Index, Match: f.Pattern.Match(rest))).Where(m => m.Match.Success).OrderBy(m => m.Match.Index)
                    .FirstOrDefault();
            var isGroup = _kind == "GroupWeightRename";
            if (match is null || (isGroup && index > 0 && !IsPresent(before!, names)))
            {
                return [alias];
            }

            var number = int.TryParse(match.Groups["number"].Value, CultureInfo.InvariantCulture, out var n) ? n : (int?)null;
            var caught = match.Groups[1].Value;
            caught = _json.Number("offset") is { } offset ? $"{int.Parse(caught, CultureInfo.InvariantCulture) + (int)offset}" : caught;
            return (isGroup ? [_to[index]] : _to).Select((to, result) => new Alias(
                before + rest[..match.Index] + to.Replace(@"\1", caught, StringComparison.Ordinal) + rest[(match.Index + match.Length)..],
                Converts ? new Conversion(_json, index, result, number) : alias.Conversion));
        }

        // What stands before the part of a name that the rule sees; null if the name lies outside its scope.
        private string? Before(string name)
        {
            var below = _scope is null or "" ? "" : $"{_scope}.";
            var full = _scope is null || _prefix.Length == 0 ? below : $"{_prefix}.{below}";
            return name.StartsWith(full, StringComparison.Ordinal) ? full : name.StartsWith(below, StringComparison.Ordinal) ? below : null;
        }

        private bool IsPresent(string before, IReadOnlyCollection<string> names)
        {
            if (!_present.TryGetValue(before, out var present))
            {
                var first = _from.Find(f => f.Index == 0).Pattern;
                _present[before] = present = names.Any(
                    n => n.StartsWith(before, StringComparison.Ordinal) && first.IsMatch(n[before.Length..]));
            }

            return present;
        }

        private static string Collapse(Match match)
        {
            var layer = int.Parse(match.Groups[1].ValueSpan, CultureInfo.InvariantCulture);
            var part = match.Groups[2].Value switch
            {
                "attn_alpha" => "lambda_1",
                "mlp_alpha" => "lambda_2",
                _ => layer % 2 == 0 ? "self_attn" : "mlp",
            };
            return $"layers.{layer / 2}.{part}";
        }
    }
}
