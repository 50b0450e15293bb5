using UnslothMerge.Pickle;

namespace UnslothMerge.Models;

/// <summary>The files of a model directory: those that lie in it, and those that are on the Hub yet.</summary>
internal sealed class CheckpointFiles(string directory, RemoteFiles remote)
{
    public string Directory => directory;

    /// <summary>The names of all files.</summary>
    public IReadOnlySet<string> Names { get; } =
        System.IO.Directory.EnumerateFiles(directory).Select(f => Path.GetFileName(f)).Concat(remote.Names)
            .ToHashSet(StringComparer.Ordinal);

    /// <summary>Reads the header of a file of tensors.</summary>
    public IReadOnlyList<StoredTensor> Read(string name)
    {
        var path = Path.Combine(directory, name);
        if (name.EndsWith(".safetensors", StringComparison.Ordinal))
        {
            return (remote.Find(name) is { } file ? SafetensorsFile.Open(file) : SafetensorsFile.Open(path)).Tensors;
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
}
