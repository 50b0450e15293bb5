using UnslothMerge.Pickle;

namespace UnslothMerge.Models;

/// <summary>All tensors of a model directory, from one file or from shards, safetensors or PyTorch's, in the order in which they lie on
/// disk.</summary>
internal sealed partial class Checkpoint
{
    private static readonly (string Stem, string Extension)[] Weights = [("model", "safetensors"), ("pytorch_model", "bin")];

    private readonly Dictionary<string, StoredTensor> _byName;

    private Checkpoint(IEnumerable<StoredTensor> tensors)
    {
        Tensors = [.. tensors];
        _byName = Tensors.ToDictionary(t => t.Name, StringComparer.Ordinal);
    }

    /// <summary>The tensors, shard by shard, in the order of their data.</summary>
    public IReadOnlyList<StoredTensor> Tensors { get; }

    public StoredTensor? Find(string name) => _byName.GetValueOrDefault(name);

    /// <summary>Reads the headers of a model directory.</summary>
    public static Checkpoint Open(string directory)
    {
        foreach (var (stem, extension) in Weights)
        {
            var single = Path.Combine(directory, $"{stem}.{extension}");
            if (File.Exists(single))
            {
                return new Checkpoint(Read(single));
            }

            if (File.Exists($"{single}.index.json"))
            {
                return OpenShards(directory, $"{single}.index.json");
            }

            var names = Directory.EnumerateFiles(directory, $"{stem}*").Select(f => Path.GetFileName(f)!).ToList();
            if (Variant(directory, names, stem, extension) is { } variant)
            {
                return variant;
            }

            if (names.Select(n => ShardName().Match(n)).FirstOrDefault(m => m.Success && m.Groups["stem"].Value == stem) is { } shard)
            {
                var count = int.Parse(shard.Groups["count"].Value, CultureInfo.InvariantCulture);
                return new Checkpoint(ReadShards(directory,
                    [.. Enumerable.Range(1, count).Select(i => $"{stem}-{i:d5}-of-{shard.Groups["count"].Value}.{extension}")]));
            }
        }

        throw NoWeights(directory, "has neither model.safetensors nor pytorch_model.bin, in one file or in shards");
    }

    /// <summary>The error for a directory without weights or config: what it holds in their place, and what to do.</summary>
    internal static MergeException NoWeights(string directory, string lacks)
    {
        if (GivenPath.WithoutSnapshot(directory) is { } repository)
        {
            return new MergeException(
                MergeError.InvalidModel, $"'{directory}' {repository.Lacks}.", directory, repository.Advice);
        }

        string? Found(string pattern) => Directory.EnumerateFiles(directory, pattern).Select(Path.GetFileName).Order().FirstOrDefault();
        var (found, advice) = Found("adapter_config.json") is not null
            ? ("", $"This is an adapter{TrainedOn(directory)}. Pass the model that it was trained on as the base, and this directory as "
                + "the adapter.")
            : Found("*.gguf") is { } gguf
            ? ($" '{gguf}' is a GGUF file, which is not read.", "Use the original model in safetensors, and convert the merged model.")
            : Found("consolidated*") is { } own
            ? ($" '{own}' is in the format of the model's own code, which is not read.",
                "Download the files that transformers reads as well: config.json and model*.safetensors.")
            : (Found("model_index.json") ?? Found("diffusion_pytorch_model*")) is { } pipeline
            ? ($" '{pipeline}' is a part of diffusers, whose UNets and transformers are not read.",
                "For a LoRA of its text encoder pass the folder text_encoder.")
            : (Found("tf_model.h5") ?? Found("flax_model.msgpack") ?? Found("*.nemo")) is { } other
            ? ($" '{other}' is not read.", "Convert the model to safetensors: load it with transformers and save it again.")
            : ("", "Pass the directory of a complete Hugging Face model: config.json and its weights.");
        return new MergeException(MergeError.InvalidModel, $"'{directory}' {lacks}.{found}", directory, advice);
    }

    private static string TrainedOn(string adapter) =>
        JsonFile.Read(Path.Combine(adapter, "adapter_config.json"), MergeError.InvalidAdapter).String("base_model_name_or_path")
            is { Length: > 0 } name ? $", trained on '{name}'" : "";

    private static IReadOnlyList<StoredTensor> Read(string path)
    {
        if (path.EndsWith(".safetensors", StringComparison.Ordinal))
        {
            return SafetensorsFile.Open(path).Tensors;
        }

        try
        {
            return [.. TorchFile.Open(path).OrderBy(t => t.Offset)];
        }
        catch (MergeException e)
        {
            throw new MergeException(MergeError.InvalidModel, e.Message, path, e.Advice, e);
        }
    }

    // model.fp16.safetensors, or model.safetensors.index.fp16.json beside model.fp16-00001-of-00002.safetensors.
    private static Checkpoint? Variant(string directory, List<string> names, string stem, string extension)
    {
        var pattern = $@"\A{stem}\.({extension}\.index\.(?<name>[\w-]+)\.json|(?<name>[\w-]+)(?<!-of-\d{{5}})\.{extension})\z";
        var variants = names.Select(n => Regex.Match(n, pattern, RegexOptions.ExplicitCapture)).Where(m => m.Success)
            .OrderBy(m => m.Groups["name"].Value, StringComparer.Ordinal).ToList();
        return variants.Count switch
        {
            0 => null,
            1 when Path.Combine(directory, variants[0].Value) is var path =>
                path.EndsWith(".json", StringComparison.Ordinal) ? OpenShards(directory, path) : new Checkpoint(Read(path)),
            _ => throw new MergeException(
                MergeError.InvalidModel,
                $"'{directory}' has no {stem}.{extension}, but several variants of it: "
                + $"{string.Join(", ", variants.Select(v => v.Groups["name"].Value))}.",
                directory,
                "Keep one variant, or rename its files to those of a model without a variant."),
        };
    }

    [GeneratedRegex(@"\A(?<stem>.+)-\d{5}-of-(?<count>\d{5})\.\w+\z", RegexOptions.ExplicitCapture)]
    private static partial Regex ShardName();

    private static List<StoredTensor> ReadShards(string directory, IReadOnlyList<string> names)
    {
        var missing = names.Where(n => !File.Exists(Path.Combine(directory, n))).ToList();
        if (missing.Count > 0)
        {
            throw new MergeException(
                MergeError.InvalidModel,
                $"'{directory}' is incomplete: {string.Join(", ", missing)} {(missing.Count == 1 ? "is" : "are")} missing.",
                directory,
                "Download the missing shards.") { Details = missing };
        }

        var tensors = names.SelectMany(n => Read(Path.Combine(directory, n))).ToList();
        return tensors.GroupBy(t => t.Name, StringComparer.Ordinal).FirstOrDefault(g => g.Count() > 1) is not { } twice
            ? tensors
            : throw new MergeException(
                MergeError.InvalidModel,
                $"The tensor '{twice.Key}' is in both '{twice.First().File.Name}' and '{twice.Last().File.Name}' of '{directory}'.",
                directory,
                "Download the model again.");
    }

    private static Checkpoint OpenShards(string directory, string index)
    {
        var map = ShardIndex.Read(index);
        var tensors = ReadShards(directory, [.. map.Values.Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal)]);
        var shards = tensors.ToDictionary(t => t.Name, t => t.File.Name, StringComparer.Ordinal);
        var misplaced = map.Where(e => shards.GetValueOrDefault(e.Key) != e.Value).Select(e => $"{e.Key} (in {e.Value})").ToList();
        var more = misplaced.Count > 5 ? $" and {misplaced.Count - 5} more" : "";
        return misplaced.Count == 0
            ? new Checkpoint(tensors)
            : throw new MergeException(
                MergeError.InvalidModel,
                $"The index '{index}' does not agree with its shards: {string.Join(", ", misplaced.Take(5))}{more} are in other shards.",
                index,
                "Download index and shards again, from the same revision.") { Details = misplaced };
    }
}
