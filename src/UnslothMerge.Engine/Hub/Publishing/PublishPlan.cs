using System.IO.Enumeration;

namespace UnslothMerge.Hub.Publishing;

/// <summary>What a publication will do, found before anything is sent.</summary>
internal sealed record PublishPlan(PublishTarget Target, RemoteState State, ImmutableArray<string> Deleted, ImmutableArray<string> Warnings)
{
    // What transformers loads as a model's weights, at the top of a repository.
    private static readonly string[] ModelWeights =
    [
        "model*.safetensors", "model*.safetensors.index*.json", "pytorch_model*.bin", "pytorch_model*.bin.index*.json",
        "tf_model*.h5", "tf_model*.h5.index.json", "flax_model*.msgpack", "flax_model*.msgpack.index.json",
    ];

    private static readonly string[] AdapterWeights = ["adapter_model.safetensors", "adapter_model.bin"];

    /// <summary>The repository that the model's unchanged files may be copied from; null if none is known.</summary>
    public string? Source { get; init; }

    /// <summary>Finds what stays in the way of a new model: weights and indexes that the files to publish do not replace by name. Weights
    /// of a variant (<c>model.fp16.safetensors</c>) stand beside those without, and are another model's.</summary>
    public static ImmutableArray<string> Stale(IEnumerable<string> present, IReadOnlyCollection<string> published)
    {
        var isAdapter = published.Any(n => AdapterWeights.Contains(n));
        var patterns = isAdapter ? AdapterWeights : ModelWeights;
        var variants = published.Where(IsWeight).Select(VariantOf).ToHashSet();
        return [.. present.Where(n => IsWeight(n) && variants.Contains(VariantOf(n))).Except(published).Order(StringComparer.Ordinal)];

        bool IsWeight(string name) =>
            !name.Contains('/', StringComparison.Ordinal) && patterns.Any(p => FileSystemName.MatchesSimpleExpression(p, name));
    }

    /// <summary>What a user should know of files that stay.</summary>
    public static IEnumerable<string> Leftovers(IEnumerable<string> present, IReadOnlyCollection<string> published) =>
        present.Contains("adapter_config.json") && !published.Contains("adapter_config.json") && !published.Any(AdapterWeights.Contains)
            ? ["The repository holds an adapter (adapter_config.json), which transformers would load on top of the model: delete it there."]
            : [];

    // model.fp16-00001-of-00002.safetensors → fp16; model.safetensors.index.fp16.json → fp16; anything without one → nothing.
    private static string VariantOf(string name)
    {
        var parts = name.Split('.').Skip(1).Where(p =>
            p is not ("safetensors" or "bin" or "index" or "json" or "h5" or "msgpack")).Select(p => p.Split('-')[0]);
        return string.Join('.', parts);
    }
}
