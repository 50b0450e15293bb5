namespace UnslothMerge.Models;

/// <summary>What a rule made of a name: several where one tensor of the checkpoint is several of the running model. The source is the
/// pattern that matched, the number that which stood for <c>*</c>: the expert's.</summary>
internal sealed record Renamed(IReadOnlyList<string> Names, int Source, int? Number);

/// <summary>
/// One of transformers' rules from a tensor's name in a checkpoint to its name in the running model. Source: transformers 5,
/// <c>core_model_loading.py</c>.
/// </summary>
internal sealed partial class NameRule
{
    private readonly string? _scope;
    private readonly string _prefix;
    private readonly string _kind;
    private readonly long _offset;
    private readonly Lazy<(Regex Pattern, int Source)[]> _patterns;
    private readonly string[] _targets;

    // What a name must have for each pattern, so that most rules are done with most names quickly.
    private readonly string[] _words;

    private NameRule(JsonObject json, string? scope, string prefix)
    {
        (_scope, _prefix, _kind, _offset) = (scope, prefix, (string)json["kind"]!, (long?)json["offset"] ?? 0);
        Operations = [.. (json["operations"] as JsonArray ?? []).Select(o => o!.AsObject())];
        string[] from, to;
        if (_kind == "PrefixChange")
        {
            var below = (string?)json["below"] is { Length: > 0 } b ? b + @"\." : "";
            (from, to) = (string?)json["add"] is { } added
                ? ([$@"^{below}(?:(?!{added}\.))(.+)"], [$@"{below}{added}\.\1"])
                : ((string[])[$@"^{below}{(string)json["remove"]!}\.(.+)"], (string[])[$@"{below}\1"]);
        }
        else
        {
            (from, to) = ([.. json.Strings("from")], [.. json.Strings("to")]);
        }

        _targets = [.. to.Select(t => t.TrimStart('^').Replace(@"\.", ".", StringComparison.Ordinal))];
        // Most rules have no word in common with any name of a model.
        _patterns = new(() =>
            [.. from.Select((f, i) => (Text: Pattern(f, from.Length == to.Length && to[i].StartsWith('^')), Source: i))
                .OrderByDescending(p => p.Text.Length)
                .Select(p => (new Regex(p.Text, RegexOptions.CultureInvariant), p.Source))]);
        _words = [.. from.Select(Word)];
        Sources = from.Length;
        TakesAnyNumber = _kind != "LayerPairCollapse" && _offset == 0
            && !from.Any(f => SomeNumbers().IsMatch(f.Replace(@"\d+", "", StringComparison.Ordinal)));
        Numbers = [.. new[] { scope ?? "", prefix }.Concat(from).Concat(to).SelectMany(t => Digits().Matches(t)).Select(m => m.Value)];
    }

    /// <summary>What happens to the values, each with its <c>name</c> and <c>dim</c>; none for a rename.</summary>
    public IReadOnlyList<JsonObject> Operations { get; }

    /// <summary>The number of patterns: of tensors that become one.</summary>
    public int Sources { get; }

    /// <summary>The number of tensors that one becomes.</summary>
    public int Targets => _targets.Length;

    /// <summary>True if the values are the same in both, or an expert's matrix lies the other way round, which its shape tells.</summary>
    public bool Keeps => Operations.All(o => (string?)o["name"] == "Transpose" && (int?)o["dim1"] == 2);

    /// <summary>True if names that differ in numbers only, and in none of <see cref="Numbers"/>, are renamed alike.</summary>
    public bool TakesAnyNumber { get; }

    /// <summary>The numbers that the rule names.</summary>
    public IReadOnlyList<string> Numbers { get; }

    /// <summary>True if one of the operations has a name.</summary>
    public bool Has(string operation) => Operations.Any(o => (string?)o["name"] == operation);

    /// <summary>True if a tensor of each expert, or of each half, becomes a part of one of all experts.</summary>
    public bool StacksExperts =>
        Has("MergeModulelist") || Has("ErnieFuseAndSplitTextVisionExperts") || Operations.Any(o => (int?)o["dim"] == 1);

    /// <summary>The operations, for errors.</summary>
    public override string ToString() => string.Join(" and ", Operations.Select(o => (string?)o["name"]));

    /// <summary>The rules of a model type or class. The scope is the part of the model that they hold for, below the prefix (null for all
    /// of it); the prefix is the attribute of the model's class that holds the model without its head.</summary>
    public static IEnumerable<NameRule> Of(string list, string? scope, string prefix) =>
        (TransformersData.Find("rules", list) as JsonArray ?? []).Select(r => new NameRule(r!.AsObject(), scope, prefix));

    /// <summary>Renames a tensor; null if the rule does not hold for it. <paramref name="isPresent"/> says whether the checkpoint has a
    /// name that fits a pattern below a prefix.</summary>
    public Renamed? Apply(string name, Func<Regex, string, bool> isPresent)
    {
        if (_kind == "LayerPairCollapse")
        {
            return LayerPair().Match(name) is { Success: true } pair ? new Renamed([LayerPair().Replace(name, Collapsed)], 0, null) : null;
        }

        if (!Array.Exists(_words, w => name.Contains(w, StringComparison.Ordinal)))
        {
            return null;
        }

        var start = 0;
        if (_scope is not null)
        {
            var below = _scope.Length > 0 ? _scope + "." : "";
            var full = _prefix.Length > 0 ? $"{_prefix}.{below}" : below;
            start = name.StartsWith(full, StringComparison.Ordinal)
                ? full.Length : name.StartsWith(below, StringComparison.Ordinal) ? below.Length : -1;
            if (start < 0)
            {
                return null;
            }
        }

        var rest = start == 0 ? name : name[start..];
        Match? match = null;
        var source = 0;
        foreach (var (pattern, index) in _patterns.Value)
        {
            if (pattern.Match(rest) is { Success: true } found && (match is null || found.Index < match.Index))
            {
                (match, source) = (found, index);
            }
        }

        // Two names that are both old and new: the pairs count only if the checkpoint has the older one of the first pair.
        var isGroup = _kind == "GroupWeightRename";
        if (match is null || (isGroup && source > 0 && !isPresent(_patterns.Value.First(p => p.Source == 0).Pattern, name[..start])))
        {
            return null;
        }

        var caught = match.Groups["n"].Success ? match.Groups["n"].Value : null;
        var targets = isGroup ? [_targets[source]] : _targets;
        return new Renamed(
            [.. targets.Select(t =>
                string.Concat(name.AsSpan(0, start), rest.AsSpan(0, match.Index),
                    t.Replace(@"\1", Caught(match), StringComparison.Ordinal), rest.AsSpan(match.Index + match.Length)))],
            source,
            int.TryParse(caught, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : null);
    }

    private string Caught(Match match) =>
        _offset == 0
            ? match.Groups[1].Value
            : (long.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture) + _offset).ToString(CultureInfo.InvariantCulture);

    // dory keeps attention and MLP of a layer as two layers.
    private static string Collapsed(Match match)
    {
        var layer = int.Parse(match.Groups["layer"].ValueSpan, CultureInfo.InvariantCulture);
        var part = match.Groups["part"].Value switch { "attn_alpha" => "lambda_1", "mlp_alpha" => "lambda_2",
            _ => layer % 2 == 0 ? "self_attn" : "mlp" };
        return string.Create(CultureInfo.InvariantCulture, $"layers.{layer / 2}.{part}");
    }

    // The longest plain word of a pattern; empty if it has alternatives, groups or classes.
    private static string Word(string pattern) =>
        Special().IsMatch(pattern) ? "" : pattern.Split('^', '$', '*', '.', '\\').MaxBy(w => w.Length)!;

    // In transformers' patterns '*.' stands for '.*\.', and a name at the end is a whole one.
    private static string Pattern(string pattern, bool anchored)
    {
        var text = (anchored && pattern[0] != '^' ? "^" : "") + pattern.Replace("*.", @"(?<n>.*)\.", StringComparison.Ordinal);
        return char.IsAsciiLetterOrDigit(text[^1]) ? text + @"(?!\w)" : text;
    }

    [GeneratedRegex(@"[()|\[\]?+{}]|\\[^.]")]
    private static partial Regex Special();

    [GeneratedRegex(@"\\d|\{|\[[^\]]*\d")]
    private static partial Regex SomeNumbers();

    [GeneratedRegex(@"\d+")]
    private static partial Regex Digits();

    [GeneratedRegex(@"layers\.(?<layer>\d+)\.(?<part>mixer|attn_alpha|mlp_alpha)(?=\.|$)")]
    private static partial Regex LayerPair();
}
