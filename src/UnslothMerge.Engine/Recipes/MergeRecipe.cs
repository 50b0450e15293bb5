using UnslothMerge.Adapters;
using UnslothMerge.Hub.Fetching;

namespace UnslothMerge.Recipes;

/// <summary>A plan and the strengths of its tensors, by ordinal.</summary>
internal sealed record RecipePlan(MergePlan Plan, IReadOnlyDictionary<int, double> Strengths)
{
    /// <summary>The tensors with their strengths.</summary>
    public IEnumerable<LogicalTensor> Tensors => Plan.Tensors.Select(t => t.WithStrength(Strengths.GetValueOrDefault(t.Ordinal, 1)));
}

/// <summary>A merge as a file says it: a base, one or more merges on top of each other, and where the model goes.</summary>
internal sealed record MergeRecipe(string File, string Base, IReadOnlyList<RecipeMerge> Merges)
{
    private const string BaseKey = "base", MergesKey = "merges", OutputKey = "output";

    /// <summary>The options of the save by the names of their parameters, <c>path</c> among them; null if the recipe has none.</summary>
    public JsonObject? Output { get; init; }

    /// <summary>Reads a recipe.</summary>
    public static MergeRecipe Read(string file)
    {
        var json = RecipeFile.Read(file);
        var reader = new RecipeReader(json, "", file).With([BaseKey, .. RecipeMerge.Keys, MergesKey, OutputKey]);
        if (json[MergesKey] is not null && RecipeMerge.Keys.FirstOrDefault(k => json[k] is not null) is { } other)
        {
            throw new MergeException(
                MergeError.InvalidRecipe, $"'{file}' has '{MergesKey}' and '{other}' side by side.", file,
                $"Move '{other}' into one of the merges, or leave out '{MergesKey}' for a single merge.");
        }

        var merges = reader.List(MergesKey, (item, place) =>
            RecipeMerge.Of(RecipeMerge.Mapping(item, place, file).With(RecipeMerge.Keys), file));
        if (merges.Skip(1).Any(m => m.Adapters.Count == 0))
        {
            throw new MergeException(
                MergeError.InvalidRecipe, $"'{file}': a merge on top of another one has no adapters.", file, "Give it 'adapters'.");
        }

        return new MergeRecipe(
            file,
            reader.Text(BaseKey) ?? throw reader.Bad(BaseKey, null, "a directory or org/name"),
            merges.Count > 0 ? merges : [RecipeMerge.Of(reader, file)])
        {
            Output = json[OutputKey] switch
            {
                null => null,
                JsonValue value when value.TryGetValue(out string? path) => new JsonObject { ["path"] = path },
                JsonObject output when output.String("path") is not null => output,
                var output => throw reader.Bad(OutputKey, output, "a directory, or a mapping with a path"),
            },
        };
    }

    /// <summary>The recipe of a plan whose tensors have strengths. Names give what it calls a directory.</summary>
    public static MergeRecipe Of(string file, MergePlan plan, Func<LogicalTensor, double> strength, Func<string, string> name)
    {
        var merges = new List<RecipeMerge>();
        foreach (var stage in plan.Earlier.Append(new EarlierMerge(int.MaxValue, StrengthRules.For(plan.Tensors, strength))))
        {
            var steps = plan.Steps.Skip(merges.Sum(m => m.Adapters.Count)).Take(stage.Adapters).ToList();
            merges.Add(new RecipeMerge(
                [.. steps.Select(s => new RecipeAdapter(name(s.Adapter.Path), s.Weight))],
                steps.Count > 0 ? steps[0].Options : new PlanOptions(),
                stage.Strength));
        }

        return new MergeRecipe(file, name(plan.Base.Path), merges);
    }

    /// <summary>The recipe's text.</summary>
    public string Text()
    {
        var json = new JsonObject { [BaseKey] = Base };
        if (Merges.Count > 1)
        {
            json[MergesKey] = new JsonArray([.. Merges.Select(m => m.ToJson())]);
        }
        else
        {
            foreach (var (key, value) in Merges[0].ToJson())
            {
                json[key] = value?.DeepClone();
            }
        }

        if (Output is not null)
        {
            json[OutputKey] = Output.DeepClone();
        }

        return RecipeFile.Text(File, json);
    }

    /// <summary>Plans it.</summary>
    /// <param name="resolve">Gives the directory of a path that the recipe has at a place.</param>
    public RecipePlan Plan(Func<string, HubUse, FetchedModel> resolve)
    {
        RecipePlan? result = null;
        foreach (var merge in Merges)
        {
            var steps = merge.Adapters.Select(a => (a.Weight, Found: resolve(a.Path, HubUse.Adapter)))
                .Select(a => new AdapterStep(AdapterDirectory.Open(a.Found.Directory), a.Weight)).ToList();
            var plan = result is null
                ? MergePlanner.Plan(Opened(resolve(Base, HubUse.Base)), steps, merge.Options)
                : MergePlanner.Extend(result.Plan, result.Strengths, steps, merge.Options);
            RequireUse(merge.Strength, plan);
            result = new RecipePlan(plan, StrengthRules.Apply(merge.Strength, plan));
        }

        return result!;
    }

    private static ModelDirectory Opened(FetchedModel model) => ModelDirectory.Open(model.Directory, model.Remote);

    // A rule about nothing is a slip that would save another model than the one that is meant.
    private void RequireUse(IReadOnlyList<StrengthRule> rules, MergePlan plan)
    {
        if (rules.FirstOrDefault(r => !plan.Tensors.Any(t => t.IsChanged && r.Matches(t.Name))) is { } idle)
        {
            throw new MergeException(
                MergeError.InvalidRecipe, $"'{File}': the strength {idle.ToJson().ToJsonString()} is about no tensor that is changed.",
                File, "Compare it with Name, Layer and Module of the tensors of Merge-LoraModel.");
        }
    }
}
