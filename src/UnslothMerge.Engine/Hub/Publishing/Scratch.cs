using UnslothMerge.Saving;

namespace UnslothMerge.Hub.Publishing;

/// <summary>A directory for shards on their way to the Hub. Disposed of, it is gone; what a process left that was killed is deleted by the
/// next one at the same location.</summary>
internal sealed class Scratch : IDisposable
{
    private const string Prefix = ".unslothmerge-";

    private readonly string _parent;
    private ProcessFolder? _folder;

    /// <summary>Prepares one at a temporary location. Its last name is the repository's.</summary>
    public Scratch(string location, string repository)
    {
        _parent = System.IO.Path.Combine(location, $"{Prefix}{Guid.NewGuid().ToString("N")[..8]}");
        Path = System.IO.Path.Combine(_parent, repository.Split('/')[^1]);
    }

    /// <summary>The directory.</summary>
    public string Path { get; }

    /// <summary>Makes the directory.</summary>
    public void Open()
    {
        _folder = ProcessFolder.Open(SystemDisk.Instance, _parent, Prefix + "*");
        Directory.CreateDirectory(Path);
    }

    public void Dispose() => _folder?.Dispose();
}
