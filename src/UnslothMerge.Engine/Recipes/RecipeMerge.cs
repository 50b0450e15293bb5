using UnslothMerge.Adapters;
using UnslothMerge.Adapters.Combining;

namespace UnslothMerge.Recipes;

/// <summary>An adapter of a recipe and its weight.</summary>
internal sealed record RecipeAdapter(string Path, double Weight);

/// <summary>One merge of a recipe: adapters, what shapes their deltas, and strengths of all that is merged so far.</summary>
internal sealed record RecipeMerge(IReadOnlyList<RecipeAdapter> Adapters, PlanOptions Options, IReadOnlyList<StrengthRule> Strength)
{
    /// <summary>The keys that it has in a recipe.</summary>
    public static readonly IReadOnlyList<string> Keys =
    [
        "adapters", "combination_type", "density", "seed", "keep_tied", "base_is_residual", "allow_merged_base", "moe_orientation",
        "moe_lora_layout", "strength",
    ];

    /// <summary>Reads it.</summary>
    public static RecipeMerge Of(RecipeReader reader, string file) => new(
        reader.List("adapters", (item, place) => Adapter(item, place, file)), OptionsOf(reader), StrengthOf(reader, file));

    /// <summary>What shapes deltas: as a recipe and a record have it.</summary>
    public static PlanOptions OptionsOf(RecipeReader reader) => new()
    {
        Combination = reader.Name("combination_type", [.. Enum.GetValues<CombinationType>().Select(c => (c.Name(), c))])
            ?? CombinationType.Sum,
        Density = reader.Number("density"),
        Seed = reader.Number("seed") is not { } seed ? 0 : seed == (int)seed ? (int)seed : throw reader.Bad("seed", seed, "a whole number"),
        KeepTied = reader.Truth("keep_tied"),
        BaseIsResidual = reader.Truth("base_is_residual"),
        AllowMergedBase = reader.Truth("allow_merged_base"),
        MoeOrientation = reader.Name("moe_orientation", [.. Enum.GetValues<MoeOrientation>().Select(o => (o.ToString(), o))]),
        MoeLoraLayout = reader.Name("moe_lora_layout", [.. Enum.GetValues<MoeLoraLayout>().Select(l => (l.ToString(), l))]),
    };

    /// <summary>Strengths: one number, several from the first layer to the last, or rules.</summary>
    public static IReadOnlyList<StrengthRule> StrengthOf(RecipeReader reader, string file) =>
        reader.List("strength", (item, place) => (Item: item, Place: place)) is { Count: > 0 } items && items.All(i => i.Item is JsonObject)
            ? [.. items.Select(i => Rule((JsonObject)i.Item, i.Place, file))]
            : reader.Numbers("strength") is { Count: > 0 } values ? [new StrengthRule(values)] : [];

    /// <summary>The merge in a recipe.</summary>
    public JsonObject ToJson()
    {
        var json = new JsonObject();
        if (Adapters.Count > 0)
        {
            json["adapters"] = new JsonArray([.. Adapters.Select(a => new JsonObject { ["path"] = a.Path, ["weight"] = a.Weight })]);
        }

        foreach (var (key, value) in Options.Described)
        {
            json[key] = value?.DeepClone();
        }

        if (StrengthRules.ToJson(Strength) is { } strength)
        {
            json["strength"] = strength;
        }

        return json;
    }

    private static RecipeAdapter Adapter(JsonNode item, string place, string file)
    {
        if (item is JsonValue value && value.TryGetValue(out string? path))
        {
            return new RecipeAdapter(path, 1);
        }

        var reader = Mapping(item, place, file).With("path", "weight");
        return new RecipeAdapter(
            reader.Text("path") ?? throw reader.Bad("path", null, "a directory or org/name"), reader.Number("weight") ?? 1);
    }

    private static StrengthRule Rule(JsonObject item, string place, string file)
    {
        var reader = new RecipeReader(item, place, file).With("layers", "modules", "tensors", "value");
        var values = reader.Numbers("value");
        return new StrengthRule(values.Count > 0 ? values : throw reader.Bad("value", null, "a number, or several from the first layer on"))
        {
            Layers = [.. reader.Texts("layers").SelectMany(t => t.Split(',')).Select(t => Range(reader, t.Trim()))],
            Modules = reader.Texts("modules"),
            Tensors = reader.Texts("tensors"),
        };
    }

    private static LayerRange Range(RecipeReader reader, string text) => text.Split('-') switch
    {
        [var one] when Layer(one) is { } layer => new LayerRange(layer, layer),
        [var first, var last] when Layer(first) is { } from && Layer(last) is { } to && from <= to => new LayerRange(from, to),
        _ => throw reader.Bad("layers", text, "layers such as 3, 0-7 or '0-3, 12'"),
    };

    private static int? Layer(string text) =>
        int.TryParse(text.Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out var layer) ? layer : null;

    /// <summary>A mapping of a list.</summary>
    public static RecipeReader Mapping(JsonNode item, string place, string file) => item is JsonObject json
        ? new RecipeReader(json, place, file)
        : throw new MergeException(
            MergeError.InvalidRecipe, $"'{file}': {place} is {item.ToJsonString()}; it must be a mapping of keys to values.", file,
            $"Correct {place}.");
}
