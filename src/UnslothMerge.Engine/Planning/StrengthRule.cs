using System.IO.Enumeration;

namespace UnslothMerge.Planning;

/// <summary>Layers from the first to the last, both included.</summary>
internal readonly record struct LayerRange(int First, int Last)
{
    /// <summary>As recipes spell it: <c>3</c>, <c>0-7</c>.</summary>
    public override string ToString() => First == Last ? $"{First}" : $"{First}-{Last}";

    /// <summary>The fewest ranges that are these layers.</summary>
    public static IReadOnlyList<LayerRange> Of(IEnumerable<int> layers)
    {
        var ranges = new List<LayerRange>();
        foreach (var layer in layers.Order())
        {
            if (ranges.Count > 0 && ranges[^1].Last >= layer - 1)
            {
                ranges[^1] = ranges[^1] with { Last = layer };
            }
            else
            {
                ranges.Add(new LayerRange(layer, layer));
            }
        }

        return ranges;
    }
}

/// <summary>The strength of tensors by layer, module and name; a list that is empty excludes nothing. Several values are spread evenly from
/// the first layer to the last, with straight lines between them.</summary>
internal sealed record StrengthRule(IReadOnlyList<double> Values)
{
    /// <summary>The layers.</summary>
    public IReadOnlyList<LayerRange> Layers { get; init; } = [];

    /// <summary>The modules within their layer, with wildcards.</summary>
    public IReadOnlyList<string> Modules { get; init; } = [];

    /// <summary>The names, with wildcards.</summary>
    public IReadOnlyList<string> Tensors { get; init; } = [];

    /// <summary>True if the rule is about a tensor.</summary>
    public bool Matches(string name)
    {
        var layer = TensorNames.Layer(name);
        return (Layers.Count == 0 || Layers.Any(l => layer >= l.First && layer <= l.Last))
            && (Values.Count == 1 || layer is not null)
            && (Modules.Count == 0 || Modules.Any(m => IsLike(m, TensorNames.Module(name))))
            && (Tensors.Count == 0 || Tensors.Any(t => IsLike(t, name)));
    }

    /// <summary>The strength of a layer of a model part whose last one is given.</summary>
    public double At(int layer, int last)
    {
        var place = last == 0 ? 0 : (double)layer / last * (Values.Count - 1);
        var before = Math.Min((int)place, Math.Max(Values.Count - 2, 0));
        return Values.Count == 1 ? Values[0] : Values[before] + ((Values[before + 1] - Values[before]) * (place - before));
    }

    /// <summary>The rule in a recipe or a record.</summary>
    public JsonObject ToJson()
    {
        var json = new JsonObject();
        Add("layers", Layers switch
        {
            [] => null,
            [var (first, last)] when first == last => first,
            _ => string.Join(", ", Layers),
        });
        Add("modules", List(Modules));
        Add("tensors", List(Tensors));
        Add("value", Values.Count == 1 ? Values[0] : new JsonArray([.. Values.Select(v => JsonValue.Create(v))]));
        return json;

        void Add(string key, JsonNode? value)
        {
            if (value is not null)
            {
                json[key] = value;
            }
        }

        static JsonNode? List(IReadOnlyList<string> texts) => texts.Count == 0 ? null
            : texts.Count == 1 ? texts[0]
            : new JsonArray([.. texts.Select(t => JsonValue.Create(t))]);
    }

    private static bool IsLike(string pattern, string text) => FileSystemName.MatchesSimpleExpression(pattern, text);
}
