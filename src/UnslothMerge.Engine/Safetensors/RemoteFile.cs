namespace UnslothMerge.Safetensors;

/// <summary>A file of which a part can be read before it lies on this disk.</summary>
internal abstract class RemoteFile
{
    /// <summary>The bytes of the file.</summary>
    public abstract long Length { get; }

    /// <summary>Where it lies once it is downloaded.</summary>
    public abstract string Path { get; }

    /// <summary>True once it lies on this disk.</summary>
    public abstract bool IsDownloaded { get; }

    /// <summary>True if nobody has changed what was downloaded; nobody can change what is on the Hub at a commit.</summary>
    public abstract bool IsUnchanged { get; }

    /// <summary>Reads a part of it. Any number of threads may do so.</summary>
    public abstract void Read(long offset, Span<byte> destination);
}

/// <summary>The files of a directory that do not lie in it yet, by name.</summary>
internal sealed class RemoteFiles(IReadOnlyDictionary<string, RemoteFile> files)
{
    /// <summary>None.</summary>
    public static RemoteFiles None { get; } = new(new Dictionary<string, RemoteFile>());

    public IEnumerable<string> Names => files.Keys;

    public RemoteFile? Find(string name) => files.GetValueOrDefault(name);
}
