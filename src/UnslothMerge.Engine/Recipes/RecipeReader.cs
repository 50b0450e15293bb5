namespace UnslothMerge.Recipes;

/// <summary>A mapping of a recipe. What it holds is asked for by key and type; what is wrong is named by its place.</summary>
internal sealed class RecipeReader(JsonObject json, string place, string file)
{
    /// <summary>The text of a key; null if it is absent.</summary>
    public string? Text(string key) => json[key] switch
    {
        null => null,
        JsonValue value when value.TryGetValue(out string? text) && text.Length > 0 => text,
        var other => throw Bad(key, other, "a text"),
    };

    /// <summary>The text or texts of a key; empty if it is absent.</summary>
    public IReadOnlyList<string> Texts(string key) => json[key] is JsonArray list
        ? [.. list.Select(i => i is JsonValue v && (v.TryGetValue(out string? text) || IsNumber(v, out text)) ? text
            : throw Bad(key, i, "a list of texts"))]
        : json[key] is JsonValue value && IsNumber(value, out var number) ? [number]
        : Text(key) is { } one ? [one] : [];

    /// <summary>The finite number of a key; null if it is absent.</summary>
    public double? Number(string key) => json[key] is { } node ? NumberOf(key, node) : null;

    /// <summary>The number or numbers of a key; empty if it is absent.</summary>
    public IReadOnlyList<double> Numbers(string key) => json[key] switch
    {
        null => [],
        JsonArray { Count: > 0 } list => [.. list.Select(n => NumberOf(key, n))],
        var node => [NumberOf(key, node)],
    };

    /// <summary>True or false; false if it is absent.</summary>
    public bool Truth(string key) => json[key] switch
    {
        null => false,
        JsonValue value when value.TryGetValue(out bool truth) => truth,
        var other => throw Bad(key, other, "true or false"),
    };

    /// <summary>A value by its name, in any case; null if it is absent.</summary>
    public T? Name<T>(string key, params IReadOnlyList<(string Name, T Value)> names)
        where T : struct => Text(key) is not { } text ? null
        : names.Where(n => n.Name.Equals(text, StringComparison.OrdinalIgnoreCase)).Select(n => (T?)n.Value).FirstOrDefault()
            ?? throw Bad(key, text, $"one of {string.Join(", ", names.Select(n => n.Name))}");

    /// <summary>The items of a list; empty if it is absent. A single item needs no list.</summary>
    public IReadOnlyList<T> List<T>(string key, Func<JsonNode, string, T> read) => json[key] switch
    {
        null => [],
        JsonArray list => [.. list.Select((item, i) => read(item ?? throw Bad(key, item, "a list without gaps"), $"{Place(key)}[{i}]"))],
        var item => [read(item, Place(key))],
    };

    /// <summary>Refuses keys that no recipe has at this place.</summary>
    public RecipeReader With(params IReadOnlyList<string> keys) => json.Select(p => p.Key).Except(keys).FirstOrDefault() is { } unknown
        ? throw new MergeException(
            MergeError.InvalidRecipe, $"'{file}': there is no '{Place(unknown)}' in a recipe.", file,
            $"Keys {(place.Length == 0 ? "of a recipe" : $"of {place}")} are {string.Join(", ", keys)}.")
        : this;

    /// <summary>The error of a value that a key cannot have.</summary>
    public MergeException Bad(string key, JsonNode? value, string expected) => new(
        MergeError.InvalidRecipe, $"'{file}': {Place(key)} is {value?.ToJsonString() ?? "empty"}; it must be {expected}.", file,
        $"Correct {Place(key)}.");

    private static bool IsNumber(JsonValue value, out string text)
    {
        text = value.GetValueKind() == JsonValueKind.Number ? value.ToJsonString() : "";
        return text.Length > 0;
    }

    private double NumberOf(string key, JsonNode? node) => node is JsonValue value && value.GetValueKind() == JsonValueKind.Number
        ? value.GetValue<double>() : throw Bad(key, node, "a number");

    private string Place(string key) => place.Length == 0 ? key : $"{place}.{key}";
}
