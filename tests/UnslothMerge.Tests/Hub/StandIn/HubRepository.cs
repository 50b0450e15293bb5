using System.Collections.Immutable;
using System.Security.Cryptography;

namespace UnslothMerge.Tests.Hub.StandIn;

/// <summary>A commit: what is in it, and what it came from.</summary>
internal sealed record HubCommit(string Id, string? Parent, string Title, string Description,
    ImmutableSortedDictionary<string, HubFile> Files);

/// <summary>A repository with its branches, tags and pull requests.</summary>
internal sealed class HubRepository
{
    private const string Attributes = "*.safetensors filter=lfs diff=lfs merge=lfs -text\n*.bin filter=lfs diff=lfs merge=lfs -text\n"
        + "*.model filter=lfs diff=lfs merge=lfs -text\n*.pt filter=lfs diff=lfs merge=lfs -text\n";

    public HubRepository(string id, bool isPrivate)
    {
        Id = id;
        IsPrivate = isPrivate;
        Refs["main"] = Add(null, "initial commit", "",
            ImmutableSortedDictionary<string, HubFile>.Empty.WithComparers(StringComparer.Ordinal)
                .Add(".gitattributes", HubFile.Regular(Encoding.UTF8.GetBytes(Attributes)))).Id;
    }

    public string Id { get; }

    public bool IsPrivate { get; set; }

    public bool IsGated { get; set; }

    /// <summary>Branches, tags and refs/pr/n: name → commit.</summary>
    public Dictionary<string, string> Refs { get; } = new(StringComparer.Ordinal);

    /// <summary>All commits in the order in which they were made.</summary>
    public List<HubCommit> Commits { get; } = [];

    public HubCommit Head => Find("main")!;

    /// <summary>The commit of a branch, a tag, a pull request, or an id; null if there is none.</summary>
    public HubCommit? Find(string revision) =>
        Commits.Find(c => c.Id == (Refs.GetValueOrDefault(revision) ?? Refs.GetValueOrDefault($"refs/heads/{revision}") ?? revision));

    public HubCommit Add(string? parent, string title, string description, ImmutableSortedDictionary<string, HubFile> files)
    {
        var text = $"{Id} {parent} {title} {Commits.Count} {string.Join('\n', files.Select(f => $"{f.Key} {f.Value.Oid}"))}";
        var id = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)))[..40];
        var commit = new HubCommit(id, parent, title, description, files);
        Commits.Add(commit);
        return commit;
    }
}
