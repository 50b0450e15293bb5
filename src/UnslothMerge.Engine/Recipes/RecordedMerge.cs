using UnslothMerge.Adapters;
using UnslothMerge.Hub.Fetching;

namespace UnslothMerge.Recipes;

/// <summary>The merge that a saved model's merge.json names. Base and adapters are found again by their hashes: in the Hub's cache, beside
/// the model, and below the current location.</summary>
internal static class RecordedMerge
{
    /// <summary>Plans the merge of a saved model again.</summary>
    public static (MergePlan Plan, IReadOnlyList<LogicalTensor> Tensors) Plan(string model, string location)
    {
        var file = Path.Combine(model, MergeRecord.FileName);
        if (!File.Exists(file))
        {
            throw new MergeException(
                MergeError.SourceNotFound, $"'{model}' has no {MergeRecord.FileName} that names its base and adapters.", model,
                "Pipe the output of Merge-LoraModel here, or give -Base and -Adapter.");
        }

        var record = JsonFile.Read(file, MergeError.InvalidModel);
        var search = new SourceSearch(model, location);
        var json = record["base"] as JsonObject ?? [];
        var @base = search.Find(json, d => IsBase(d, json)) ?? throw NotFound(search, file, "base", json);
        var adapters = (record["adapters"] as JsonArray ?? []).OfType<JsonObject>()
            .Select(a => (Json: a, Path: search.Find(a, d => IsAdapter(d, a)) ?? throw NotFound(search, file, "adapter", a))).ToList();
        var planned = new MergeRecipe(file, @base, Merges(record, adapters, file)).Plan((path, _) => FetchedModel.Local(path));
        if (record["options"] is not JsonObject options || options.Bool("partial") != true)
        {
            return (planned.Plan, [.. planned.Tensors]);
        }

        var saved = StoredFormats.Read(ModelDirectory.Open(model)).Select(t => t.Name).ToHashSet(StringComparer.Ordinal);
        return (planned.Plan, [.. planned.Tensors.Where(t => saved.Contains(t.Name))]);
    }

    private static List<RecipeMerge> Merges(JsonObject record, List<(JsonObject Json, string Path)> adapters, string file)
    {
        var (merges, place) = (new List<RecipeMerge>(), 0);
        var stages = (record["merges"] as JsonArray ?? []).OfType<JsonObject>()
            .DefaultIfEmpty(new JsonObject { ["adapters"] = (double)adapters.Count });
        foreach (var reader in stages.Select(s => new RecipeReader(s, "merges", file)))
        {
            var count = (int)(reader.Number("adapters") ?? 0);
            var own = adapters.Skip(place).Take(count).ToList();
            place += count;
            merges.Add(new RecipeMerge(
                [.. own.Select(a => new RecipeAdapter(a.Path, a.Json.Number("weight") ?? 1))],
                RecipeMerge.OptionsOf(new RecipeReader(own.FirstOrDefault().Json?["options"] as JsonObject ?? [], "options", file)),
                RecipeMerge.StrengthOf(reader, file)));
        }

        return merges;
    }

    // Header and samples, so that no fine-tune of the same shapes is taken for the base; the record, so that no merged model is.
    private static bool IsBase(string directory, JsonObject recorded)
    {
        if (!File.Exists(Path.Combine(directory, "config.json")))
        {
            return false;
        }

        var model = ModelDirectory.Open(directory);
        return MergeRecord.HeaderHash(model) == recorded.String("header_sha256")
            && MergeRecord.SampleHash(model) == recorded.String("sample_sha256")
            && JsonNode.DeepEquals(MergeRecord.Read(directory), recorded["merge"]);
    }

    private static bool IsAdapter(string directory, JsonObject recorded) =>
        new DirectoryInfo(directory).EnumerateFiles().Any(f => f.Length == recorded.Number("bytes"))
        && MergeRecord.HashOf(AdapterDirectory.Open(directory)) == recorded.String("sha256");

    private static MergeException NotFound(SourceSearch search, string file, string what, JsonObject json) => new(
        MergeError.SourceNotFound,
        $"The {what} that '{file}' names was not found{(json.String("id") is { } id ? $" ('{id}')" : "")}. Looked in "
        + $"{string.Join(", ", search.Places)}.",
        file,
        "Give -Base and -Adapter, or go to a folder that both are below.");
}
