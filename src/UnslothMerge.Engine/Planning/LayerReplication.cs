using UnslothMerge.Adapters;

namespace UnslothMerge.Planning;

/// <summary>
/// PEFT's <c>layer_replication</c>: ranges of layers that the adapter stacks into a deeper model. The copies share their weights while
/// training, but each has deltas of its own, so each becomes a layer of its own. Source: PEFT 0.21, <c>replicate_layers</c>.
/// </summary>
internal static class LayerReplication
{
    private const string Option = "layer_replication";

    /// <summary>The source of each new layer, in order; null if the adapter replicates none.</summary>
    public static IReadOnlyList<int>? Of(AdapterDirectory adapter, IReadOnlyList<LogicalTensor> tensors)
    {
        if (adapter.Config.Json[Option] is null or JsonArray { Count: 0 })
        {
            return null;
        }

        var ranges = adapter.Config.Json[Option] as JsonArray ?? throw new MergeException(
            MergeError.InvalidAdapter, $"'{adapter.Path}': {Option} is {adapter.Config.Json[Option]!.ToJsonString()}, which is no list.",
            adapter.Path, $"Write {Option} as a list of ranges.");

        var layers = Count(tensors);
        var sources = new List<int>();
        foreach (var range in ranges)
        {
            if (range is not JsonArray { Count: 2 } pair || pair[0] is not JsonValue from || pair[1] is not JsonValue to
                || !from.TryGetValue(out int start) || !to.TryGetValue(out int end) || start < 0 || end <= start || end > layers)
            {
                throw new MergeException(
                    MergeError.InvalidAdapter,
                    $"The adapter '{adapter.Path}' replicates the layers {range?.ToJsonString()}, but the base has {layers}.", adapter.Path,
                    "Pass the model that the adapter was trained on as the base.");
            }

            sources.AddRange(Enumerable.Range(start, end - start));
            if (sources.Count > Limits.Layers)
            {
                throw new MergeException(
                    MergeError.InvalidAdapter, $"The adapter '{adapter.Path}' replicates more than {Limits.Layers} layers.", adapter.Path,
                    $"Correct {Option} in its adapter_config.json.");
            }
        }

        return sources;
    }

    /// <summary>The tensors of the deeper model; each copy reads the base's tensor.</summary>
    public static IReadOnlyList<LogicalTensor> Apply(IReadOnlyList<LogicalTensor> tensors, IReadOnlyList<int> sources)
    {
        var layers = Layers(tensors).ToLookup(t => TensorNames.Layer(t.Name)!.Value);
        var first = tensors.TakeWhile(t => !IsLayer(t)).Count();
        var deeper = sources.SelectMany(
            (source, layer) => layers[source].Select(t => t with { Name = TensorNames.WithLayer(t.Name, layer) }));
        var all = tensors.Take(first).Concat(deeper).Concat(tensors.Skip(first).Where(t => !IsLayer(t)));
        return [.. all.Select((t, ordinal) => t with { Ordinal = ordinal })];
    }

    /// <summary>The config of the deeper model.</summary>
    public static ModelConfig Apply(ModelConfig config, IReadOnlyList<LogicalTensor> tensors, IReadOnlyList<int> sources)
    {
        var positional = config.PositionalSettings;
        return positional.Count == 0
            ? config.WithLayers(sources, Count(tensors))
            : throw new MergeException(
                MergeError.UnsupportedAdapter,
                $"Layers cannot be replicated in a model whose config depends on their position ({string.Join(", ", positional)}).",
                "layer_replication", "Use PEFT to merge this adapter.");
    }

    private static int Count(IReadOnlyList<LogicalTensor> tensors) =>
        Layers(tensors).Select(t => TensorNames.Layer(t.Name)!.Value).DefaultIfEmpty(-1).Max() + 1;

    private static IEnumerable<LogicalTensor> Layers(IReadOnlyList<LogicalTensor> tensors) => tensors.Where(IsLayer);

    private static bool IsLayer(LogicalTensor tensor) =>
        TensorNames.Layer(tensor.Name) is not null && TensorNames.Component(tensor.Name) == "text";
}
