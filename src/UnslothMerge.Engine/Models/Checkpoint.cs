using System.Collections;
using System.IO.Enumeration;
using System.Runtime.ExceptionServices;

namespace UnslothMerge.Models;

/// <summary>All tensors of a model directory, from one file or from shards, safetensors or PyTorch's, in the order in which they lie on
/// disk.</summary>
internal sealed class Checkpoint
{
    // So many headers are read at a time: what takes long of each is the way to its disk or server.
    private const int Readers = 8;

    private readonly StoredTensor[] _tensors;
    private readonly NameIndex _names;

    private Checkpoint(string directory, params IReadOnlyList<IReadOnlyList<StoredTensor>> files)
    {
        _tensors = files is [StoredTensor[] only] ? only : [.. files.SelectMany(f => f)];
        _names = new NameIndex(i => _tensors[i].Name, _tensors.Length);
        foreach (var tensor in _tensors)
        {
            if (!_names.TryAdd())
            {
                throw new MergeException(
                    MergeError.InvalidModel,
                    $"The tensor '{tensor.Name}' is in both '{Find(tensor.Name)!.File.Name}' and '{tensor.File.Name}' of '{directory}'.",
                    directory,
                    "Download the model again.");
            }
        }
    }

    /// <summary>The tensors, shard by shard, in the order of their data.</summary>
    public IReadOnlyList<StoredTensor> Tensors => _tensors;

    public StoredTensor? Find(string name) => _names.Find(name) is >= 0 and var place ? _tensors[place] : null;

    /// <summary>Reads the headers of a model directory, some of whose files may be on the Hub yet.</summary>
    public static Checkpoint Open(string directory, RemoteFiles? remote = null)
    {
        var files = new CheckpointFiles(directory, remote ?? RemoteFiles.None);
        var checkpoint = WeightFiles.Choose(directory, files.Names) switch
        {
            { Index: { } index } => OpenShards(files, index),
            { Files: [var single] } => new Checkpoint(directory, files.Read(single)),
            { Files: var shards } => new Checkpoint(directory, ReadShards(files, shards)),
            null => throw NoWeights(
                directory, files.Names, "has neither model.safetensors nor pytorch_model.bin, in one file or in shards"),
        };
        Garbage.Release(checkpoint._tensors.Length);
        return checkpoint;
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

    private static IReadOnlyList<StoredTensor>[] ReadShards(CheckpointFiles files, IReadOnlyList<string> names)
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

        var read = new IReadOnlyList<StoredTensor>[names.Count];
        var failures = new ExceptionDispatchInfo?[names.Count];
        Parallel.For(0, names.Count, new ParallelOptions { MaxDegreeOfParallelism = Readers }, (i, state) =>
        {
            try
            {
                read[i] = files.Read(names[i]);
            }
            catch (Exception e) when (e is MergeException or IOException or OperationCanceledException)
            {
                failures[i] = ExceptionDispatchInfo.Capture(e);
                state.Break();
            }
        });
        Array.Find(failures, f => f is not null)?.Throw();
        return read;
    }

    // The index is read twice, and nothing of it is kept: which shards there are, and then whether each tensor is where it says.
    private static Checkpoint OpenShards(CheckpointFiles files, string name)
    {
        var index = Path.Combine(files.Directory, name);
        var shards = new SortedSet<string>(StringComparer.Ordinal);
        ShardIndex.Read(index, (_, shard) => shards.Add(shard));
        var checkpoint = new Checkpoint(files.Directory, ReadShards(files, [.. shards]));

        var seen = new BitArray(checkpoint._tensors.Length);
        var misplaced = new List<string>();
        ShardIndex.Read(index, (tensor, shard) =>
        {
            var place = checkpoint._names.Find(tensor);
            if (place < 0 || checkpoint._tensors[place].File.Name != shard)
            {
                misplaced.Add($"{tensor} (in {shard})");
            }
            else if (seen[place])
            {
                throw new JsonException($"'{tensor}' occurs twice.");
            }
            else
            {
                seen[place] = true;
            }
        });
        var more = misplaced.Count > 5 ? $" and {misplaced.Count - 5} more" : "";
        return misplaced.Count == 0
            ? checkpoint
            : throw new MergeException(
                MergeError.InvalidModel,
                $"The index '{index}' does not agree with its shards: {string.Join(", ", misplaced.Take(5))}{more} are in other shards.",
                index,
                "Download index and shards again, from the same revision.") { Details = misplaced };
    }
}
