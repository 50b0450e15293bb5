namespace UnslothMerge.Hub;

/// <summary>A model on the Hub, as users write it: <c>org/name</c>, with a revision, and a folder of the repository.</summary>
internal sealed partial record HubReference(string Id, string? Revision = null, string? Folder = null)
{
    private static readonly string[] Pages = ["tree", "blob", "resolve", "raw", "commit"];

    /// <summary>True if the revision is the id of a commit, which no branch can move.</summary>
    public bool IsPinned => Revision is not null && IsCommit(Revision);

    /// <summary>Reads <c>org/name[/folder][@revision]</c>, an address of the Hub copied from a browser, or <c>hf://org/name@revision/folder
    /// </c>. Null if a text is none of these. A name without an account is one only where <paramref name="bare"/> says so.</summary>
    public static HubReference? Parse(string text, Uri endpoint, bool bare = false)
    {
        text = text.Trim();
        if (text.StartsWith("hf://", StringComparison.OrdinalIgnoreCase))
        {
            var path = text["hf://".Length..];
            return Named().Match(path.StartsWith("models/", StringComparison.Ordinal) ? path["models/".Length..] : path) is
                { Success: true } match
                ? Of(match.Groups["id"].Value, Value(match.Groups["revision"]), Value(match.Groups["folder"])) : null;
        }

        if (Uri.TryCreate(text, UriKind.Absolute, out var address) && address.Scheme is "http" or "https")
        {
            return address.Authority == endpoint.Authority || address.Host is "huggingface.co" or "hf.co" ? OfPage(address) : null;
        }

        var at = text.IndexOf('@', StringComparison.Ordinal);
        var (name, revision) = at < 0 ? (text, null) : (text[..at], text[(at + 1)..]);
        var parts = name.Split('/');
        return revision is "" || parts.Any(p => p.Length == 0) || (parts.Length == 1 && !bare) ? null
            : Of(string.Join('/', parts.Take(2)), revision, parts.Length > 2 ? string.Join('/', parts[2..]) : null);
    }

    /// <summary>True for the id of a commit.</summary>
    public static bool IsCommit(string revision) => Commit().IsMatch(revision);

    public override string ToString() =>
        $"{Id}{(Folder is null ? "" : "/" + Folder)}{(Revision is null ? "" : "@" + Revision)}";

    // https://huggingface.co/org/name[/tree/revision[/folder]]; a file stands for the folder that it is in.
    private static HubReference? OfPage(Uri address)
    {
        var parts = address.AbsolutePath.Trim('/').Split('/').Select(Uri.UnescapeDataString).ToArray();
        var page = Array.FindIndex(parts, p => Pages.Contains(p));
        var id = string.Join('/', page < 0 ? parts : parts[..page]);
        if (page is 0 or > 2 || (page > 0 && parts.Length < page + 2))
        {
            return null;
        }

        // refs/pr/7 is one revision.
        var length = page > 0 && parts[page + 1] == "refs" ? 3 : 1;
        string[] folder = page < 0 ? [] : [.. parts.Skip(page + 1 + length)];
        folder = page > 0 && parts[page] is not "tree" ? [.. folder.SkipLast(1)] : folder;
        return Of(id, page < 0 ? null : string.Join('/', parts.Skip(page + 1).Take(length)),
            folder.Length == 0 ? null : string.Join('/', folder));
    }

    private static HubReference? Of(string id, string? revision, string? folder) =>
        id.Split('/') is { Length: <= 2 } parts && parts.All(HubName.IsPart)
        && folder?.Split('/').Any(p => p is "" or "." or "..") != true
            ? new HubReference(id, revision, folder) : null;

    private static string? Value(Group group) => group is { Success: true, Length: > 0 } ? group.Value : null;

    [GeneratedRegex(@"\A(?<id>[^@/]+/[^@/]+)(@(?<revision>refs/[^/]+/[^/]+|[^/]+))?(/(?<folder>.*?)/?)?\z", RegexOptions.ExplicitCapture)]
    private static partial Regex Named();

    [GeneratedRegex(@"\A[0-9a-f]{40}\z")]
    private static partial Regex Commit();
}
