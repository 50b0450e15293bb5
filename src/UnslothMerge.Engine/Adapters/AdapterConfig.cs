using System.Collections.Concurrent;

namespace UnslothMerge.Adapters;

/// <summary>adapter_config.json as PEFT writes it. Only what enters the math, or decides whether it can be done, is read. Source: PEFT
/// 0.21.</summary>
internal sealed partial class AdapterConfig
{
    private readonly JsonObject _json;
    private readonly string _path;
    private readonly ConcurrentDictionary<string, ModuleKeys> _keys = new(StringComparer.Ordinal);

    public AdapterConfig(JsonObject json, string path)
    {
        _json = json;
        _path = path;
        PeftType = json.String("peft_type")?.ToUpperInvariant()
            ?? throw new MergeException(
                MergeError.InvalidAdapter, $"'{path}' has no peft_type, so it is not the config of a PEFT adapter.", path);
    }

    /// <summary>The kind of adapter: <c>LORA</c>, <c>IA3</c> …</summary>
    public string PeftType { get; }

    /// <summary>The model the adapter was trained on, as its author called it.</summary>
    public string? BaseModel => _json.String("base_model_name_or_path") is { Length: > 0 } name ? name : null;

    /// <summary>The task: <c>CAUSAL_LM</c>, <c>SEQ_CLS</c> …</summary>
    public string? TaskType => _json.String("task_type");

    /// <summary>True if the scaling is alpha / √r instead of alpha / r (rsLoRA, arXiv 2312.03732).</summary>
    public bool UseRsLora => Flag("use_rslora") ?? false;

    /// <summary>The rank for modules that no pattern matches; null if the file has none.</summary>
    public int? Rank => Whole("r");

    /// <summary>The alpha for modules that no pattern matches. Not always a whole number: converted PiSSA adapters have alpha·√2.</summary>
    public double? Alpha => Number("lora_alpha");

    /// <summary>The parameters, by name or the end of it, that were adapted themselves instead of their modules.</summary>
    public IReadOnlyList<string> TargetParameters => _json.Strings("target_parameters");

    /// <summary>The release of PEFT that wrote the adapter, without what follows its numbers; null before 0.18.</summary>
    public Version? PeftVersion =>
        _json.String("peft_version") is { } text && VersionPattern().Match(text) is { Success: true } match
            ? Version.Parse(match.Value)
            : null;

    /// <summary>True if a parameter was adapted itself. Source: PEFT 0.21, <c>_inject_parameters</c>.</summary>
    public bool TargetsParameter(string name) => TargetParameters.Any(t => name == t || name.EndsWith("." + t, StringComparison.Ordinal));

    /// <summary>The raw content.</summary>
    public JsonObject Json => _json;

    /// <summary>True if experts have a rank of their own, by which alpha is divided (NeMo Automodel).</summary>
    public bool ScalesExpertRanks => Flag("moe_rank_scaling") == true;

    /// <summary>The rank that the config gives a module.</summary>
    public int? RankOf(string module) =>
        ScalesExpertRanks && module.Contains(".experts", StringComparison.Ordinal) ? null
        : Pattern("rank_pattern", module) is not { } rank ? Rank
        : rank == Math.Truncate(rank) ? (int)rank : throw NotA($"the rank of {module}", "a whole number", rank);

    /// <summary>The alpha that the config gives a module.</summary>
    public double AlphaOf(string module) => ValueOf(module, "lora_alpha", "alpha_pattern");

    /// <summary>A number of the config (<c>alpha</c> …), or of a pattern beside it (<c>alpha_pattern</c> …), for a module's name without
    /// <c>base_model.model.</c></summary>
    public double ValueOf(string module, string option, string? pattern = null) =>
        (pattern is null ? null : Pattern(pattern, module)) ?? Number(option)
        ?? throw new MergeException(MergeError.InvalidAdapter, $"'{_path}' has no {option}, which the deltas of its kind need.", _path);

    /// <summary>alpha / r, or alpha / √r with rsLoRA.</summary>
    public double ScalingOf(string module, int rank) => AlphaOf(module) / (UseRsLora ? Math.Sqrt(rank) : rank);

    /// <summary>An option that is true or false, or 1 or 0; null if it is absent or null.</summary>
    public bool? Flag(string option) => Value(option, "true or false", (JsonValue v) => v.GetValueKind() switch
    {
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        JsonValueKind.Number when v.GetValue<double>() is var number and (0 or 1) => number == 1,
        _ => (bool?)null,
    });

    /// <summary>An option that is a number; null if it is absent or null.</summary>
    public double? Number(string option) => Value(option, "a number", (JsonValue v) => NumberOf(v));

    /// <summary>An option that is a whole number; null if it is absent or null.</summary>
    public int? Whole(string option) => Value(option, "a whole number", (JsonValue v) =>
        NumberOf(v) is { } number && number == Math.Truncate(number) && Math.Abs(number) <= int.MaxValue ? (int)number : (int?)null);

    private static double? NumberOf(JsonValue value) => value.GetValueKind() == JsonValueKind.Number ? value.GetValue<double>() : null;

    // A value of another type counts as absent nowhere: PEFT may read it otherwise, and the merge would be wrong.
    private T? Value<TNode, T>(string option, string expected, Func<TNode, T?> read)
        where TNode : JsonNode
        where T : struct => _json[option] is not { } node ? null
        : node is TNode typed && read(typed) is { } value ? value
        : throw NotA(option, expected, node);

    private MergeException NotA(string option, string expected, JsonNode? value) => new(
        MergeError.InvalidAdapter, $"'{_path}': {option} is {value?.ToJsonString() ?? "null"}, which is not {expected}.", _path,
        $"Write {option} as {expected}.");

    /// <summary>True for an option that is set: not absent, null, false, empty or zero.</summary>
    public bool IsSet(string option) => _json[option] switch
    {
        null => false,
        JsonObject o => o.Count > 0,
        JsonArray a => a.Count > 0,
        JsonValue v => v.GetValueKind() switch
        {
            JsonValueKind.True => true,
            JsonValueKind.String => v.GetValue<string>().Length > 0,
            JsonValueKind.Number => v.GetValue<double>() != 0,
            _ => false,
        },
        _ => false,
    };

    // PEFT: the first key, in the file's order, for which re.match(r"(.*\.)?(KEY)$", module) matches. Keys are regular expressions.
    private double? Pattern(string option, string module)
    {
        if (_json[option] is not JsonObject patterns)
        {
            return _json[option] is { } other ? throw NotA(option, "an object", other) : null;
        }

        var place = KeysOf(option)!.Find(module);
        return place < 0 ? null
            : patterns.GetAt(place) is var (key, value) && value is JsonValue number && NumberOf(number) is { } result ? result
            : throw NotA($"{option}['{key}']", "a number", value);
    }

    /// <summary>The keys of a pattern; null if the config has none.</summary>
    public ModuleKeys? KeysOf(string pattern) => _json[pattern] is not JsonObject patterns ? null
        : _keys.GetOrAdd(pattern, _ => new ModuleKeys(patterns.Select(p => p.Key), FromPython, MergeError.InvalidAdapter,
            key => $"'{_path}': the key '{key}' of {pattern}", _path));

    // What .NET spells otherwise: a named group, a reference to one, the end.
    internal static string FromPython(string pattern) => NamedReference().Replace(pattern, @"\k<$1>")
        .Replace("(?P<", "(?<", StringComparison.Ordinal).Replace(@"\Z", @"\z", StringComparison.Ordinal);

    [GeneratedRegex(@"\(\?P=(\w+)\)")]
    private static partial Regex NamedReference();

    [GeneratedRegex(@"^\d+\.\d+(\.\d+)?", RegexOptions.ExplicitCapture)]
    private static partial Regex VersionPattern();
}
