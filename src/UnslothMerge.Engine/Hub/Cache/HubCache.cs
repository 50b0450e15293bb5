namespace UnslothMerge.Hub.Cache;

/// <summary>The local cache of the Hugging Face Hub, as its own tools fill it, seen from the directories in it.</summary>
internal static partial class HubCache
{
    private const string Prefix = CacheSnapshot.Prefix;

    /// <summary>Where the cache is.</summary>
    public static string Location => HubSettings.Read().Cache;

    /// <summary>The name of a repository's folder.</summary>
    public static string FolderOf(string id) => Prefix + id.Replace("/", "--", StringComparison.Ordinal);

    /// <summary>The models and adapters in the cache: <c>org/name</c> and the directory of its snapshot.</summary>
    public static IEnumerable<(string Name, string Snapshot)> Entries() =>
        from directory in Directory.Exists(Location) ? Directory.EnumerateDirectories(Location, Prefix + "*") : []
        let name = IdOf(Path.GetFileName(directory))
        let snapshot = SnapshotIn(directory)
        where snapshot is not null
        orderby name
        select (name, snapshot);

    /// <summary>The directory of a snapshot: that of the branch main, or the only one there is. Null if it is no name (<c>org/name</c>, or
    /// a name alone), or not in the cache.</summary>
    public static string? Find(string name) =>
        HubName.IsOne(name) || HubName.IsPart(name) ? SnapshotIn(Path.Combine(Location, FolderOf(name))) : null;

    /// <summary>The name of what lies in a snapshot's directory, or in a folder of it; null for any other directory.</summary>
    public static string? NameOf(string directory) =>
        CacheSnapshot.Of(directory) is { } snapshot ? IdOf(Path.GetFileName(snapshot.Repository)) : null;

    /// <summary>The directory itself, or the snapshot that is meant where it is a whole repository of the cache.</summary>
    public static string Resolve(string directory) =>
        Path.GetFileName(Path.TrimEndingDirectorySeparator(directory)).StartsWith(Prefix, StringComparison.Ordinal)
            ? SnapshotIn(directory) ?? directory
            : directory;

    /// <summary>The commit of what lies in a snapshot's directory, or was downloaded into a directory of its own; null if it is not
    /// known.</summary>
    public static string? CommitOf(string directory)
    {
        var metadata = Path.Combine(directory, ".cache", "huggingface", "download");
        return CacheSnapshot.Of(directory) is { } snapshot ? snapshot.Commit
            : !Directory.Exists(metadata) ? null
            : Directory.EnumerateFiles(metadata, "config.json.metadata").Select(f => RegularFile.ReadLines(f).FirstOrDefault())
                .FirstOrDefault();
    }

    /// <summary>The directory with the files that a snapshot's links lead to; null if a directory is no snapshot.</summary>
    public static string? BlobsOf(string directory) =>
        CacheSnapshot.Of(directory)?.Blobs;

    private static string IdOf(string folder) => folder[Prefix.Length..].Replace("--", "/", StringComparison.Ordinal);

    /// <summary>The hash of a file in the cache, which is the name of the file that the snapshot's link leads to; null if it is not
    /// known.</summary>
    public static string? HashOf(string path)
    {
        var name = BlobsOf(Path.GetDirectoryName(path)!) is null ? null : Path.GetFileName(new FileInfo(path).LinkTarget);
        return name is not null && Hash().IsMatch(name) ? name : null;
    }

    private static string? SnapshotIn(string repository)
    {
        var snapshots = Path.Combine(repository, "snapshots");
        if (!Directory.Exists(snapshots))
        {
            return null;
        }

        var main = Path.Combine(repository, "refs", "main");
        if (File.Exists(main))
        {
            var snapshot = Path.Combine(snapshots, Encoding.UTF8.GetString(RegularFile.ReadAllBytes(main, 1024)).Trim());
            return Directory.Exists(snapshot) ? snapshot : null;
        }

        // A revision that was asked for by its commit has no ref. Which one of several is meant, nobody knows.
        var all = Directory.GetDirectories(snapshots);
        return all.Length == 1 ? all[0] : null;
    }

    // SHA-256 of large files, git's SHA-1 of the others.
    [GeneratedRegex("^([0-9a-f]{64}|[0-9a-f]{40})$")]
    private static partial Regex Hash();
}
