namespace UnslothMerge.Planning;

/// <summary>Rules give each changed tensor its strength: the first that is about it, or 1. From strengths they are found again.</summary>
internal static class StrengthRules
{
    /// <summary>The strengths of a plan's changed tensors, by ordinal.</summary>
    public static IReadOnlyDictionary<int, double> Apply(IReadOnlyList<StrengthRule> rules, MergePlan plan)
    {
        var last = LastLayers(plan.Tensors);
        return plan.Tensors.Where(t => t.IsChanged).ToDictionary(t => t.Ordinal, t => Of(rules, t.Name, last));
    }

    /// <summary>Few rules that give each changed tensor its strength; none if all are 1.</summary>
    public static IReadOnlyList<StrengthRule> For(IReadOnlyList<LogicalTensor> tensors, Func<LogicalTensor, double> strength)
    {
        var changed = tensors.Where(t => t.IsChanged).Select(t => new Changed(t.Name, strength(t))).ToList();
        if (changed.TrueForAll(c => c.Strength == 1))
        {
            return [];
        }

        var usual = changed.CountBy(c => c.Strength).MaxBy(c => c.Value).Key;
        var rules = new[] { 1, usual }.Distinct().Select(rest => Rules(changed, rest)).MinBy(r => r.Count)!;

        // Tensors of one layer and module can differ: a weight and its bias.
        var last = LastLayers(tensors);
        var others = changed.Where(c => Of(rules, c.Name, last) != c.Strength).GroupBy(c => c.Strength);
        return [.. others.Select(g => new StrengthRule([g.Key]) { Tensors = [.. g.Select(c => c.Name)] }), .. rules];
    }

    /// <summary>As a recipe has them: a number, or a list of rules. Null if there are none.</summary>
    public static JsonNode? ToJson(IReadOnlyList<StrengthRule> rules) => rules switch
    {
        [] => null,
        [{ Values: [var value], Layers: [], Modules: [], Tensors: [] }] => value,
        _ => new JsonArray([.. rules.Select(r => r.ToJson())]),
    };

    // The rarest strength comes first, so that what is left of a layer or module is often all of it; the last rule is that of the rest.
    private static List<StrengthRule> Rules(IReadOnlyList<Changed> changed, double rest)
    {
        var (rules, left) = (new List<StrengthRule>(), changed.ToList());
        var groups = changed.Where(c => c.Strength != rest).GroupBy(c => c.Strength).OrderBy(g => g.Count()).ThenBy(g => g.Key);
        foreach (var same in groups)
        {
            rules.AddRange(Rules(same, left));
            left.RemoveAll(c => c.Strength == same.Key);
        }

        return rest == 1 ? rules : [.. rules, new StrengthRule([rest])];
    }

    private static IEnumerable<StrengthRule> Rules(IGrouping<double, Changed> same, List<Changed> left)
    {
        var byModule = left.Where(c => c.Layer is not null).ToLookup(c => c.Module, c => c.Layer!.Value);
        var byLayer = left.Where(c => c.Layer is not null).ToLookup(c => c.Layer!.Value, c => c.Module);
        var modules = same.Where(c => c.Layer is not null).GroupBy(c => c.Module, c => c.Layer!.Value);
        foreach (var group in modules.GroupBy(m => string.Join(", ", LayerRange.Of(m)), m => (Module: m.Key, Layers: m.ToHashSet())))
        {
            var (names, layers) = (group.Select(m => m.Module).ToHashSet(StringComparer.Ordinal), group.First().Layers);
            var isWholeLayers = layers.All(l => byLayer[l].All(names.Contains));
            var isWholeModules = names.All(n => byModule[n].All(layers.Contains));
            yield return new StrengthRule([same.Key])
            {
                Layers = isWholeModules && !isWholeLayers ? [] : LayerRange.Of(layers),
                Modules = isWholeLayers ? [] : [.. names],
            };
        }

        if (same.Where(c => c.Layer is null).Select(c => c.Name).ToList() is { Count: > 0 } outside)
        {
            yield return new StrengthRule([same.Key]) { Tensors = outside };
        }
    }

    private static double Of(IReadOnlyList<StrengthRule> rules, string name, Dictionary<string, int> last) =>
        rules.FirstOrDefault(r => r.Matches(name))?.At(TensorNames.Layer(name) ?? 0, last.GetValueOrDefault(TensorNames.Component(name)))
        ?? 1;

    private static Dictionary<string, int> LastLayers(IEnumerable<LogicalTensor> tensors) =>
        tensors.GroupBy(t => TensorNames.Component(t.Name)).ToDictionary(g => g.Key, g => g.Max(t => TensorNames.Layer(t.Name)) ?? 0);

    private sealed record Changed(string Name, double Strength)
    {
        public int? Layer { get; } = TensorNames.Layer(Name);

        public string Module { get; } = TensorNames.Module(Name);
    }
}
