namespace UnslothMerge.Files;

/// <summary>A snapshot in a cache of the Hub: <c>models--org--name/snapshots/commit</c>, whose files may be links to
/// <c>models--org--name/blobs</c>.</summary>
internal sealed record CacheSnapshot(string Repository, string Commit)
{
    /// <summary>How the names of repositories begin.</summary>
    public const string Prefix = "models--";

    /// <summary>Where the files lie that its links lead to.</summary>
    public string Blobs => Path.Combine(Repository, "blobs");

    /// <summary>The snapshot that a directory is, or lies in, by its path; null for any other.</summary>
    public static CacheSnapshot? Of(string directory)
    {
        for (var folder = Path.TrimEndingDirectorySeparator(directory); Path.GetDirectoryName(folder) is { } parent; folder = parent)
        {
            if (Path.GetFileName(parent) == "snapshots" && Path.GetDirectoryName(parent) is { } repository
                && Path.GetFileName(repository).StartsWith(Prefix, StringComparison.Ordinal))
            {
                return new CacheSnapshot(repository, Path.GetFileName(folder));
            }
        }

        return null;
    }
}
