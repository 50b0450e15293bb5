using UnslothMerge.Hub.Cache;

namespace UnslothMerge.PowerShell;

/// <summary>A file of a model on the Hub, at a commit.</summary>
public sealed class HubModelFile
{
    internal HubModelFile(HubModel model, RepositoryFile file, bool isNeeded)
    {
        Model = model.Reference.Id;
        Revision = model.Reference.Revision ?? "main";
        Commit = model.Commit;
        Name = file.Path;
        Bytes = file.Size;
        Hash = file.ETag;
        Cached = model.Has(file);
        Needed = isNeeded;
        Path = Cached ? model.Cache.Pointer(model.Commit, file.Path) : null;
    }

    /// <summary>The name of the repository.</summary>
    public string Model { get; }

    /// <summary>The revision that was asked for.</summary>
    public string Revision { get; }

    /// <summary>The commit that it leads to.</summary>
    public string Commit { get; }

    /// <summary>The path in the repository.</summary>
    public string Name { get; }

    /// <summary>The size in bytes.</summary>
    public long Bytes { get; }

    /// <summary>The hash of the content: SHA-256 of a large file, git's SHA-1 of another.</summary>
    public string Hash { get; }

    /// <summary>True if the file is in the local cache.</summary>
    public bool Cached { get; }

    /// <summary>True if a merge reads the file or takes it over.</summary>
    public bool Needed { get; }

    /// <summary>The path in the local cache; null if it is not there.</summary>
    public string? Path { get; }

    public override string ToString() => Name;
}
