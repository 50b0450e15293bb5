using System.Net;
using System.Security.Cryptography;
using UnslothMerge.Hub.Cache;

namespace UnslothMerge.Hub.Publishing;

/// <summary>The one commit of a publication. It is never made twice: after an answer that was lost the branch, or the pull requests, say
/// whether it was made.</summary>
internal sealed class CommitRequest(HubClient client, RemoteRepository remote, PublishTarget target, string parent, UploadJournal journal)
{
    private const int Tries = 5;

    private readonly List<byte[]> _lines = [];
    private readonly Dictionary<string, string?> _expected = new(StringComparer.Ordinal);

    /// <summary>True if nothing would change.</summary>
    public bool IsEmpty => _expected.Count == 0;

    /// <summary>Adds a regular file.</summary>
    public void Add(UploadFile file) => Line("file", file.GitHash(), new JsonObject
    {
        ["content"] = Convert.ToBase64String(file.ReadAll()), ["path"] = file.Name, ["encoding"] = "base64",
    });

    /// <summary>Adds a large file that is in the Hub's storage. The size of a copied one is the server's affair.</summary>
    public void AddLarge(UploadFile file, bool isCopied)
    {
        var value = new JsonObject { ["path"] = file.Name, ["algo"] = "sha256", ["oid"] = file.Sha256 };
        if (!isCopied)
        {
            value["size"] = file.Size;
        }

        Line("lfsFile", file.Sha256, value);
    }

    /// <summary>Deletes a file.</summary>
    public void Delete(string path) => Line("deletedFile", null, new JsonObject { ["path"] = path });

    /// <summary>Commits, and gives the commit's id, its address and that of the pull request.</summary>
    public (string Commit, string? Url, string? PullRequest) Send(string summary, string? description, CancellationToken cancellation)
    {
        var header = new JsonObject { ["summary"] = summary, ["description"] = description ?? "", ["parentCommit"] = parent };
        byte[] body = [.. Bytes("header", header), .. _lines.SelectMany(l => l)];
        var known = target.CreatePullRequest ? KnownPullRequests(body, cancellation) : null;
        for (var i = 0; ; i++)
        {
            try
            {
                if ((known is not null || i > 0) && Find(known, cancellation) is { } made)
                {
                    return Done(body, made);
                }

                return Done(body, remote.Commit(body, cancellation));
            }
            catch (HubException e) when (e.MayRepeat && i < Tries)
            {
                client.Say($"{e.Message} Looking whether the commit was made.");
                client.Wait(e.RetryAfter ?? TimeSpan.FromSeconds(Math.Min(8, 1 << i)), cancellation);
            }
            catch (HubException e) when (e.Status == HttpStatusCode.PreconditionFailed)
            {
                // The first try may have been done after all.
                return Find(known, cancellation) is { } made ? Done(body, made) : throw Moved(e);
            }
        }
    }

    /// <summary>The error of a branch that moved.</summary>
    public MergeException Moved(Exception? inner = null) => new HubException(MergeError.HubConflict,
        $"Someone has committed to '{target}' since this publication began; nothing of it is visible.", target.Repository,
        "Look at what is there, and repeat the command: what was sent is not sent again.", inner);

    private (string, string?, string?) Done(byte[] body, (string, string?, string?) made)
    {
        journal.Remove(Entry(body));
        return made;
    }

    // A pull request has no parent to guard it. Those that were there before tell the new one.
    private HashSet<string> KnownPullRequests(byte[] body, CancellationToken cancellation)
    {
        if (journal.Read(Entry(body))?["known"] is JsonArray before)
        {
            return [.. before.Select(r => $"{r}")];
        }

        var known = remote.PullRequests(cancellation).Keys.ToHashSet();
        journal.Write(Entry(body), new JsonObject { ["known"] = new JsonArray([.. known.Select(r => JsonValue.Create(r))]) });
        return known;
    }

    private (string, string?, string?)? Find(HashSet<string>? known, CancellationToken cancellation)
    {
        var endpoint = $"{client.Settings.Endpoint.ToString().TrimEnd('/')}/{target.Repository}";
        if (known is null)
        {
            return remote.Head(target.Revision, cancellation) is { } head && head != parent && IsMade(head, cancellation)
                ? (head, $"{endpoint}/commit/{head}", null) : null;
        }

        foreach (var (reference, commit) in remote.PullRequests(cancellation).Where(r => !known.Contains(r.Key)))
        {
            if (IsMade(commit, cancellation))
            {
                return (commit, $"{endpoint}/commit/{commit}", $"{endpoint}/discussions/{reference.Split('/')[^1]}");
            }
        }

        return null;
    }

    private bool IsMade(string commit, CancellationToken cancellation)
    {
        var files = RepositoryListing.Ask(client, target.Repository, commit, cancellation).ToDictionary(f => f.Path, f => f.ETag);
        return _expected.All(e => files.GetValueOrDefault(e.Key) == e.Value);
    }

    private void Line(string key, string? hash, JsonObject value)
    {
        _expected[(string)value["path"]!] = hash;
        _lines.Add(Bytes(key, value));
    }

    private static byte[] Bytes(string key, JsonObject value) =>
        [.. JsonSerializer.SerializeToUtf8Bytes(new JsonObject { ["key"] = key, ["value"] = value }), (byte)'\n'];

    private static string Entry(byte[] body) => $"pr-{Convert.ToHexStringLower(SHA256.HashData(body))[..16]}";
}
