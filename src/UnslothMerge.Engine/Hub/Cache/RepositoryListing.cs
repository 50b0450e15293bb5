namespace UnslothMerge.Hub.Cache;

/// <summary>The files of a repository at a commit, as <c>trees/{commit}.json</c> has them. A commit never changes, so a listing is true for
/// ever. Source: huggingface_hub 1.29, <c>_tree_cache.py</c>.</summary>
internal static class RepositoryListing
{
    private const int Version = 1;

    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true, IndentSize = 1 };

    /// <summary>The files of a listing; null if it is of another version, or none.</summary>
    public static IReadOnlyList<RepositoryFile>? Parse(string json)
    {
        try
        {
            var listing = JsonNode.Parse(json);
            if ((int?)listing?["format_version"] != Version)
            {
                return null;
            }

            var files = listing["files"]!.AsObject().Select(f => new RepositoryFile(
                f.Key, (long)f.Value!["size"]!, (string)f.Value["blob_id"]!, (string?)f.Value["lfs_sha256"], (string?)f.Value["xet_hash"]))
                .ToList();
            return files.TrueForAll(f => f.IsSafe) ? files : null;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException or NullReferenceException
            or ArgumentException)
        {
            return null;
        }
    }

    /// <summary>Asks the Hub for the files of a revision.</summary>
    public static IReadOnlyList<RepositoryFile> Ask(HubClient client, string repository, string revision, CancellationToken cancellation)
    {
        var files = new Dictionary<string, RepositoryFile>(StringComparer.Ordinal);
        var call = new HubCall(HttpMethod.Get, $"/api/models/{repository}/tree/{HubCall.Escape(revision)}?recursive=true&expand=false",
            $"Listing the files of '{repository}'") { Repository = repository, Revision = revision };
        for (string? next = call.Path; next is not null;)
        {
            (var page, next) = client.Page(call with { Path = next }, cancellation);
            if (!page.IsThere || (next is not null && page.Items.Count == 0))
            {
                throw page.Odd("is an empty page");
            }

            foreach (var entry in page.Items.Where(e => e["type"].RequiredText == "file"))
            {
                var path = entry["path"];
                if (!files.TryAdd(path.RequiredText, new RepositoryFile(path.RequiredText, entry["size"].RequiredNumber,
                    entry["oid"].RequiredText, entry["lfs"]["oid"].Text, entry["xetHash"].Text)))
                {
                    throw path.Odd($"is '{path.Text}' twice");
                }
            }
        }

        return [.. files.Values];
    }

    /// <summary>The text of a listing.</summary>
    public static string Text(IEnumerable<RepositoryFile> files)
    {
        var entries = new JsonObject();
        foreach (var file in files.OrderBy(f => f.Path, StringComparer.Ordinal))
        {
            var entry = new JsonObject { ["size"] = file.Size, ["blob_id"] = file.BlobId };
            if (file.Sha256 is not null)
            {
                entry["lfs_sha256"] = file.Sha256;
                entry["lfs_size"] = file.Size;
            }

            if (file.XetHash is not null)
            {
                entry["xet_hash"] = file.XetHash;
            }

            entries.Add(file.Path, entry);
        }

        return new JsonObject { ["format_version"] = Version, ["files"] = entries }.ToJsonString(Indented);
    }
}
