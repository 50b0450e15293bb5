using UnslothMerge.Files;

namespace UnslothMerge.Models;

/// <summary>The local cache of the Hugging Face Hub, as its own tools fill it. It is only ever read, and nothing is downloaded.</summary>
internal static partial class HubCache
{
    private const string Prefix = "models--";

    /// <summary>Where the cache is: HF_HUB_CACHE, else <c>hub</c> in HF_HOME, else ~/.cache/huggingface/hub.</summary>
    public static string Location =>
        Variable("HF_HUB_CACHE") ?? Variable("HUGGINGFACE_HUB_CACHE")
            ?? Path.Combine(Variable("HF_HOME") ?? Path.Combine(Variable("XDG_CACHE_HOME") ?? Path.Combine(Home, ".cache"), "huggingface"),
                "hub");

    private static string Home => Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);

    /// <summary>The models and adapters in the cache: <c>org/name</c> and the directory of its snapshot.</summary>
    public static IEnumerable<(string Name, string Snapshot)> Entries() =>
        from directory in Directory.Exists(Location) ? Directory.EnumerateDirectories(Location, Prefix + "*") : []
        let name = Path.GetFileName(directory)[Prefix.Length..].Replace("--", "/", StringComparison.Ordinal)
        let snapshot = SnapshotIn(directory)
        where snapshot is not null
        orderby name
        select (name, snapshot);

    /// <summary>The directory of a snapshot: that of the branch main, or the only one there is. Null if it is no name (<c>org/name</c>, or
    /// a name alone), or not in the cache.</summary>
    public static string? Find(string name) =>
        RepositoryName().IsMatch(name)
        ? SnapshotIn(Path.Combine(Location, Prefix + name.Replace("/", "--", StringComparison.Ordinal))) : null;

    /// <summary>The name of what lies in a snapshot's directory; null for any other directory.</summary>
    public static string? NameOf(string directory) => Path.GetDirectoryName(directory) is { } snapshots
        && Path.GetFileName(snapshots) == "snapshots"
        && Path.GetFileName(Path.GetDirectoryName(snapshots)) is { } repository
        && repository.StartsWith(Prefix, StringComparison.Ordinal)
        ? repository[Prefix.Length..].Replace("--", "/", StringComparison.Ordinal)
        : null;

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
        return NameOf(directory) is not null ? Path.GetFileName(directory)
            : !Directory.Exists(metadata) ? null
            : Directory.EnumerateFiles(metadata, "config.json.metadata").Select(f => RegularFile.ReadLines(f).FirstOrDefault())
                .FirstOrDefault();
    }

    /// <summary>The directory with the files that a snapshot's links lead to; null if a directory is no snapshot.</summary>
    public static string? BlobsOf(string directory)
    {
        var snapshot = Path.TrimEndingDirectorySeparator(directory);
        return NameOf(snapshot) is null ? null : Path.Combine(Path.GetDirectoryName(Path.GetDirectoryName(snapshot))!, "blobs");
    }

    /// <summary>The sha256 of a file in the cache, which is the name of the file that the snapshot's link leads to; null if it is not
    /// known.</summary>
    public static string? HashOf(string path)
    {
        var name = BlobsOf(Path.GetDirectoryName(path)!) is null ? null : Path.GetFileName(new FileInfo(path).LinkTarget);
        return name is not null && Sha256().IsMatch(name) ? name : null;
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

    private static string? Variable(string name) => Environment.GetEnvironmentVariable(name) is { Length: > 0 } value
        ? Environment.ExpandEnvironmentVariables(value.StartsWith('~') ? Home + value[1..] : value)
        : null;

    [GeneratedRegex(@"^(?:\w[\w.-]*/)?\w[\w.-]*$")]
    private static partial Regex RepositoryName();

    [GeneratedRegex("^[0-9a-f]{64}$")]
    private static partial Regex Sha256();
}
