namespace UnslothMerge.Safetensors;

/// <summary>All tensors of a model directory, from one <c>model.safetensors</c> or from the shards of an index, in the order in which they
/// lie on disk.</summary>
internal sealed partial class Checkpoint
{
    private readonly Dictionary<string, StoredTensor> _byName;

    private Checkpoint(IReadOnlyList<SafetensorsFile> files)
    {
        Files = files;
        Tensors = [.. files.SelectMany(f => f.Tensors)];
        _byName = Tensors.ToDictionary(t => t.Name, StringComparer.Ordinal);
    }

    public IReadOnlyList<SafetensorsFile> Files { get; }

    /// <summary>The tensors, shard by shard, in the order of their data.</summary>
    public IReadOnlyList<StoredTensor> Tensors { get; }

    public StoredTensor? Find(string name) => _byName.GetValueOrDefault(name);

    /// <summary>Reads the headers of a model directory.</summary>
    public static Checkpoint Open(string directory)
    {
        var single = Path.Combine(directory, "model.safetensors");
        if (File.Exists(single))
        {
            return new Checkpoint([SafetensorsFile.Open(single)]);
        }

        var index = Path.Combine(directory, ShardIndex.FileName);
        if (File.Exists(index))
        {
            return OpenShards(directory, index);
        }

        if (Variants(directory) is { Count: > 0 } variants)
        {
            var (variant, path) = variants[0];
            return variants.Count > 1
                ? throw new MergeException(
                    MergeError.InvalidModel,
                    $"'{directory}' has no model.safetensors, but several variants of it: "
                    + $"{string.Join(", ", variants.Select(v => v.Variant))}.",
                    directory,
                    "Keep one variant, or rename its files to those of a model without a variant.")
                : path.EndsWith(".json", StringComparison.Ordinal) ? OpenShards(directory, path)
                : new Checkpoint([SafetensorsFile.Open(path)]);
        }

        var pickled = Directory.EnumerateFiles(directory, "pytorch_model*.bin").Any();
        throw new MergeException(
            MergeError.InvalidModel,
            $"'{directory}' has neither model.safetensors nor {ShardIndex.FileName}{(pickled ? ", only PyTorch's pickled weights" : "")}.",
            directory,
            pickled
                ? "Convert the model to safetensors first (load it with transformers and save it again)."
                : "Pass the directory of a complete Hugging Face model.");
    }

    // model.fp16.safetensors, or model.safetensors.index.fp16.json beside model.fp16-00001-of-00002.safetensors.
    private static List<(string Variant, string Path)> Variants(string directory) =>
    [
        .. Directory.EnumerateFiles(directory, "model.*").Select(f => (Match: VariantName().Match(Path.GetFileName(f)), Path: f))
            .Where(f => f.Match.Success).Select(f => (f.Match.Groups["variant"].Value, f.Path))
            .OrderBy(f => f.Value, StringComparer.Ordinal),
    ];

    [GeneratedRegex(
        @"\Amodel\.(safetensors\.index\.(?<variant>[\w-]+)\.json|(?<variant>[\w-]+)(?<!-of-\d{5})\.safetensors)\z",
        RegexOptions.ExplicitCapture)]
    private static partial Regex VariantName();

    private static Checkpoint OpenShards(string directory, string index)
    {
        var map = ShardIndex.Read(index);
        var names = map.Values.Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal).ToList();
        var missing = names.Where(n => !File.Exists(Path.Combine(directory, n))).ToList();
        if (missing.Count > 0)
        {
            throw new MergeException(
                MergeError.InvalidModel,
                $"'{directory}' is incomplete: its index names {string.Join(", ", missing)}, which {(missing.Count == 1 ? "is" : "are")} "
                + "missing.",
                directory,
                "Download the missing shards.") { Details = missing };
        }

        var files = names.Select(n => SafetensorsFile.Open(Path.Combine(directory, n))).ToList();
        var shards = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var tensor in files.SelectMany(f => f.Tensors))
        {
            if (!shards.TryAdd(tensor.Name, tensor.File.Name))
            {
                throw new MergeException(
                    MergeError.InvalidModel,
                    $"The tensor '{tensor.Name}' is in both '{shards[tensor.Name]}' and '{tensor.File.Name}' of '{directory}'.",
                    directory,
                    "Download the model again.");
            }
        }

        var misplaced = map.Where(e => shards.GetValueOrDefault(e.Key) != e.Value).Select(e => $"{e.Key} (in {e.Value})").ToList();
        var more = misplaced.Count > 5 ? $" and {misplaced.Count - 5} more" : "";
        return misplaced.Count == 0
            ? new Checkpoint(files)
            : throw new MergeException(
                MergeError.InvalidModel,
                $"The index '{index}' does not agree with its shards: {string.Join(", ", misplaced.Take(5))}{more} are in other shards.",
                index,
                "Download index and shards again, from the same revision.") { Details = misplaced };
    }
}
