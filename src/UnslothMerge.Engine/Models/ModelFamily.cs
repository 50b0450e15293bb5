namespace UnslothMerge.Models;

/// <summary>The families of models that transformers knows (<c>qwen3_moe</c> is a qwen), and which of them a name mentions.</summary>
internal static class ModelFamily
{
    private static readonly Lazy<HashSet<string>> All = new(() =>
        [.. (TransformersData.Find("auto", "causal") as JsonObject ?? []).Select(t => Of(t.Key)).Where(f => f.Length > 2)]);

    /// <summary>True if a name mentions a family, but not the model's: 'Qwen2.5-7B' for a llama.</summary>
    public static bool Differs(string name, ModelConfig model)
    {
        var own = model.ModelTypes.Select(Of).Where(All.Value.Contains).ToList();
        var words = new string([.. name.ToLowerInvariant().Select(c => char.IsAsciiLetter(c) ? c : ' ')]).Split(' ');
        var named = All.Value.Where(f => words.Any(w => w == f || (f.Length > 4 && w.EndsWith(f, StringComparison.Ordinal)))).ToList();
        return own.Count > 0 && named.Count > 0
            && !named.Exists(f => own.Exists(o => o.Contains(f, StringComparison.Ordinal) || f.Contains(o, StringComparison.Ordinal)));
    }

    private static string Of(string modelType) => new([.. modelType.TakeWhile(char.IsAsciiLetter)]);
}
