using System.IO.Enumeration;

namespace UnslothMerge.Models;

/// <summary>All tensors of a model directory, from one file or from shards, safetensors or PyTorch's, in the order in which they lie on
/// disk.</summary>
internal sealed class Checkpoint
{
    private readonly Dictionary<string, StoredTensor> _byName;

    private Checkpoint(IEnumerable<StoredTensor> tensors)
    {
        Tensors = [.. tensors];
        _byName = Tensors.ToDictionary(t => t.Name, StringComparer.Ordinal);
    }

    /// <summary>The tensors, shard by shard, in the order of their data.</summary>
    public IReadOnlyList<StoredTensor> Tensors { get; }

    public StoredTensor? Find(string name) => _byName.GetValueOrDefault(name);

    /// <summary>Reads the headers of a model directory, some of whose files may be on the Hub yet.</summary>
    public static Checkpoint Open(string directory, RemoteFiles? remote = null)
    {
        var files = new CheckpointFiles(directory, remote ?? RemoteFiles.None);
        return WeightFiles.Choose(directory, files.Names) switch
        {
            { Index: { } index } => OpenShards(files, index),
            { Files: [var single] } => new Checkpoint(files.Read(single)),
            { Files: var shards } => new Checkpoint(ReadShards(files, shards)),
            null => throw NoWeights(
                directory, files.Names, "has neither model.safetensors nor pytorch_model.bin, in one file or in shards"),
        };
    }

    /// <summary>The error for a directory without weights or config: what it holds in their place, and what to do.</summary>
    internal static MergeException NoWeights(string directory, IEnumerable<string> names, string lacks)
    {
        if (GivenPath.WithoutSnapshot(directory) is { } repository)
        {
            return new MergeException(
                MergeError.InvalidModel, $"'{directory}' {repository.Lacks}.", directory, repository.Advice);
        }

        string? Found(string pattern) => names.Where(n => FileSystemName.MatchesSimpleExpression(pattern, n)).Order().FirstOrDefault();
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

    private static List<StoredTensor> ReadShards(CheckpointFiles files, IReadOnlyList<string> names)
    {
        var directory = files.Directory;
        var missing = names.Except(files.Names).ToList();
        if (missing.Count > 0)
        {
            throw new MergeException(
                MergeError.InvalidModel,
                $"'{directory}' is incomplete: {string.Join(", ", missing)} {(missing.Count == 1 ? "is" : "are")} missing.",
                directory,
                "Download the missing shards.") { Details = missing };
        }

        var tensors = names.SelectMany(files.Read).ToList();
        return tensors.GroupBy(t => t.Name, StringComparer.Ordinal).FirstOrDefault(g => g.Count() > 1) is not { } twice
            ? tensors
            : throw new MergeException(
                MergeError.InvalidModel,
                $"The tensor '{twice.Key}' is in both '{twice.First().File.Name}' and '{twice.Last().File.Name}' of '{directory}'.",
                directory,
                "Download the model again.");
    }

    private static Checkpoint OpenShards(CheckpointFiles files, string name)
    {
        var index = Path.Combine(files.Directory, name);
        var map = ShardIndex.Read(index);
        var tensors = ReadShards(files, [.. map.Values.Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal)]);
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
