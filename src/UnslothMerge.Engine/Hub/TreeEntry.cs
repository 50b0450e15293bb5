namespace UnslothMerge.Hub;

/// <summary>A file of a repository: Git's hash of what Git has; for a large file the SHA-256 and what the Hub's newer storage calls
/// it.</summary>
internal sealed record TreeEntry(string Path, long Size, string Oid, string? Lfs, string? Xet)
{
    /// <summary>The hash that tells whether another file has the same content.</summary>
    public string ContentHash => Lfs ?? Oid;

    /// <summary>Lists the files of a revision.</summary>
    public static Dictionary<string, TreeEntry> List(HubClient client, string repository, string revision, CancellationToken cancellation)
    {
        var files = new Dictionary<string, TreeEntry>(StringComparer.Ordinal);
        var next = $"/api/models/{repository}/tree/{HubCall.Escape(revision)}?recursive=true&expand=false";
        while (next is not null)
        {
            var call = new HubCall(HttpMethod.Get, next, "Listing the files") { Repository = repository, Revision = revision };
            (var page, next) = client.Page(call, cancellation);
            foreach (var entry in (page as JsonArray ?? []).OfType<JsonObject>().Where(e => (string?)e["type"] == "file"))
            {
                var path = (string)entry["path"]!;
                files[path] = new TreeEntry(path, (long)entry["size"]!, (string?)entry["oid"] ?? "", (string?)entry["lfs"]?["oid"],
                    (string?)entry["xetHash"]);
            }
        }

        return files;
    }
}
