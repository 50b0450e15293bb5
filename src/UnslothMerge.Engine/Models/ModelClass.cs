namespace UnslothMerge.Models;

/// <summary>What transformers knows of a model's class: the rules of its names, its ties, its head. Nothing, if the class is not one of
/// its own.</summary>
internal sealed class ModelClass
{
    // Where a model type's class is looked up if the config names none.
    private static readonly string[] Tasks = ["causal", "multimodal", "seq2seq", "speech", "masked", "pretraining", "base"];

    // Where sub-models usually are; a language model's names are found without that.
    private static readonly (string Part, string?[] Paths)[] Towers =
        [("vision", ["vision_tower", "vision_model", "visual"]), ("audio", ["audio_tower", "audio_model"])];

    private readonly JsonObject? _entry;

    private ModelClass(string? name, JsonObject? entry) => (Name, _entry) = (name, entry);

    /// <summary>The class; null if neither the config nor its model type name one.</summary>
    public string? Name { get; }

    /// <summary>True if transformers' data have the class.</summary>
    public bool IsKnown => _entry is not null;

    /// <summary>The attribute that holds the model without its head: <c>model</c>, <c>bert</c>; empty if there is none.</summary>
    public string Prefix => (string?)_entry?["prefix"] ?? "";

    /// <summary>The parameters beside the model without its head, in their order.</summary>
    public IReadOnlyList<string> Head => _entry?.Strings("head") ?? [];

    /// <summary>The parts of the model without its head, for classes of a task; none if they are not known.</summary>
    public IReadOnlyList<string> Body => _entry?.Strings("body") ?? [];

    /// <summary>The tensors that are other tensors too, unless the config denies it: the head's weight → the embedding's.</summary>
    public IReadOnlyDictionary<string, string> Tied => field ??=
        (_entry?["tied"] as JsonObject ?? []).ToDictionary(p => p.Key, p => (string)p.Value!, StringComparer.Ordinal);

    /// <summary>Those that are so in the model without its head: the embeddings of encoder and decoder.</summary>
    public IEnumerable<KeyValuePair<string, string>> TiedBelow =>
        (string?)_entry?["type"] is { } type && OfTask("base", type) is { } name && name != Name
            && TransformersData.Find("classes", name)?["tied"] is JsonObject tied
        ? tied.Select(p => KeyValuePair.Create($"{Prefix}.{p.Key}", $"{Prefix}.{p.Value}")) : [];

    /// <summary>The rules from a checkpoint's names to the running model's, in order.</summary>
    public required IReadOnlyList<NameRule> Rules { get; init; }

    /// <summary>Where the rules come from.</summary>
    public string Description =>
        IsKnown
        ? $"transformers {TransformersData.Version}'s rules for {Name}"
        : $"general rules, as transformers {TransformersData.Version} does not have {Name ?? "the class"}";

    /// <summary>The class that a config names.</summary>
    public static ModelClass Of(ModelConfig config)
    {
        var type = config.ModelType;
        var name = config.Architectures.Count > 0
            ? config.Architectures[0] : type is null ? null : Tasks.Select(t => OfTask(t, type)).FirstOrDefault(c => c is not null);
        return Of(name, config);
    }

    /// <summary>A class by its name, for a model with some config.</summary>
    public static ModelClass Of(string? name, ModelConfig config)
    {
        var entry = name is null ? null : TransformersData.Find("classes", name) as JsonObject;
        var scopes = (entry?["scopes"] as JsonArray ?? []).Select(s => new Scope((string?)s![0], (string)s[1]!)).ToList();

        // A class may run several model types, each with a list of its own; and sub-models may be of other types than usual.
        if ((string?)entry?["type"] != config.ModelType)
        {
            scopes.RemoveAll(s => s.Where is null);
            scopes.InsertRange(0, ListOf(name, config.ModelType).Select(l => new Scope(null, l)));
        }

        foreach (var (part, type) in config.SubModels.Where(m => m.Type != (string?)entry?["type"]))
        {
            var where = Towers.Where(t => part.Contains(t.Part, StringComparison.Ordinal)).SelectMany(t => t.Paths).DefaultIfEmpty(null);
            scopes.AddRange(ListOf(OfTask("base", type), type).Where(l => !scopes.Exists(s => s.List == l))
                .SelectMany(l => where.Select(w => new Scope(w, l))).ToList());
        }

        var prefix = (string?)entry?["prefix"] ?? "";
        return new ModelClass(name, entry)
        {
            Rules = [.. scopes.SelectMany(s => NameRule.Of(s.List, s.Where, prefix)), .. NameRule.Of("legacy", null, "")],
        };
    }

    /// <summary>The class of a model type for a task: <c>sequence</c>, <c>token</c>, <c>question</c> …; null if there is none.</summary>
    public static string? OfTask(string task, string modelType) => (string?)TransformersData.Find("auto", task)?[modelType];

    // Rules are a class's, or else a model type's.
    private static IEnumerable<string> ListOf(params IEnumerable<string?> keys) =>
        keys.OfType<string>().Where(k => TransformersData.Find("rules", k) is not null).Take(1);

    // The part of the model that a list of rules holds for; null for all of it.
    private sealed record Scope(string? Where, string List);
}
