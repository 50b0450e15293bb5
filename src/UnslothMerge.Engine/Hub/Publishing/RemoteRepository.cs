using UnslothMerge.Hub.Cache;

namespace UnslothMerge.Hub.Publishing;

/// <summary>What a target is before a commit. Without a commit the repository is not there yet.</summary>
internal sealed record RemoteState(string? Commit, bool HasBranch, bool IsPrivate, IReadOnlyDictionary<string, RepositoryFile> Files)
{
    /// <summary>That of a repository that is not there.</summary>
    public static RemoteState Missing { get; } = new(null, false, false, new Dictionary<string, RepositoryFile>());
}

/// <summary>The calls about one repository that is published to.</summary>
internal sealed class RemoteRepository(HubClient client, PublishTarget target)
{
    private string Api => $"/api/models/{target.Repository}";

    private string Revision => HubCall.Escape(target.Revision);

    /// <summary>Looks at the target; nothing is changed.</summary>
    public RemoteState Look(CancellationToken cancellation)
    {
        HubAnswer info;
        try
        {
            info = client.Json(Get("", "Looking at the repository"), cancellation);
        }
        catch (HubException e) when (e.Error == MergeError.HubNotFound && client.HasToken)
        {
            RequireNamespace(cancellation);
            return RemoteState.Missing;
        }

        if (info["id"].Text is { } id && id != target.Repository)
        {
            throw new HubException(MergeError.HubRefused, $"'{target.Repository}' is called '{id}' now.", target.Repository,
                $"Publish to '{id}'.");
        }

        var (commit, hasBranch) = (Head(target.Revision, cancellation), true);
        if (commit is null)
        {
            if (target.Revision.StartsWith("refs/", StringComparison.Ordinal) || HubReference.IsCommit(target.Revision))
            {
                throw new HubException(MergeError.HubNotFound, $"'{target.Repository}' has no revision '{target.Revision}'.",
                    target.Repository, "Give -Revision a branch, or a pull request that exists, such as refs/pr/7.");
            }

            (commit, hasBranch) = (info["sha"].RequiredCommit, false);
        }

        return new RemoteState(commit, hasBranch, info["private"].IsTrue,
            RepositoryListing.Ask(client, target.Repository, commit, cancellation).ToDictionary(f => f.Path));
    }

    /// <summary>The commit of a revision; null if the repository has no such revision.</summary>
    public string? Head(string revision, CancellationToken cancellation)
    {
        try
        {
            return client.Json(Get($"/revision/{HubCall.Escape(revision)}", "Looking at the branch"), cancellation)["sha"].RequiredCommit;
        }
        catch (HubException e) when (e.Code == "RevisionNotFound")
        {
            return null;
        }
    }

    /// <summary>Makes the repository, unless it is there.</summary>
    public void Create(CancellationToken cancellation)
    {
        var parts = target.Repository.Split('/');
        var body = new JsonObject
        {
            ["name"] = parts[1],
            ["organization"] = parts[0],
            ["type"] = "model",
            ["visibility"] = target.Private ? "private" : "public",
        };
        IgnoreExisting(HubCall.Post("/api/repos/create", "Creating the repository", body), cancellation);
    }

    /// <summary>Makes the branch at a commit, unless it is there.</summary>
    public void CreateBranch(string commit, CancellationToken cancellation) => IgnoreExisting(
        HubCall.Post($"{Api}/branch/{Revision}", "Creating the branch", new JsonObject { ["startingPoint"] = commit }), cancellation);

    /// <summary>Lets the Hub check a model card.</summary>
    /// <exception cref="HubException">It would refuse the card.</exception>
    public void Validate(string card, CancellationToken cancellation)
    {
        var call = HubCall.Post("/api/validate-yaml", "Checking the model card",
            new JsonObject { ["content"] = card, ["repoType"] = "model" });
        HubAnswer answer;
        try
        {
            answer = client.Json(call with { Repository = target.Repository, Retry = HubRetry.Never }, cancellation);
        }
        catch (HubException e) when (e.Error == MergeError.HubRefused)
        {
            throw new HubException(MergeError.HubRefused, $"The Hub refuses the model card (README.md): {e.Message}", "README.md",
                "Correct the YAML at its top. A base_model is the name of a model on the Hub, never a path.", e);
        }

        foreach (var warning in answer["warnings"].Items.Select(w => w["message"].Text).OfType<string>())
        {
            client.Say($"The Hub says of the model card: {warning}", isWarning: true);
        }
    }

    /// <summary>Asks how each file goes to the Hub, and what is there under its name. Who may not write is refused here.</summary>
    public Dictionary<string, Preupload> Preupload(IEnumerable<UploadFile> files, bool branchExists, CancellationToken cancellation)
    {
        var found = new Dictionary<string, Preupload>(StringComparer.Ordinal);
        foreach (var some in files.Chunk(256))
        {
            var body = new JsonObject
            {
                ["files"] = new JsonArray([.. some.Select(f => new JsonObject
                {
                    ["path"] = f.Name, ["sample"] = Convert.ToBase64String(f.Start(512)), ["size"] = f.Size,
                })]),
            };
            if (some.FirstOrDefault(f => f.Name == ".gitattributes") is { } attributes)
            {
                body["gitAttributes"] = Encoding.UTF8.GetString(attributes.ReadAll());
            }

            if (some.FirstOrDefault(f => f.Name == ".gitignore") is { } ignored)
            {
                body["gitIgnore"] = Encoding.UTF8.GetString(ignored.ReadAll());
            }

            var answer = client.Json(
                HubCall.Post($"{Api}/preupload/{(branchExists ? Revision : "main")}{target.Query}", "Announcing the files", body) with
                {
                    Repository = target.Repository, Revision = target.Revision,
                }, cancellation);
            foreach (var file in answer["files"].Items)
            {
                found[file["path"].RequiredText] =
                    new Preupload(file["uploadMode"].Text == "lfs", file["shouldIgnore"].IsTrue, file["oid"].Text);
            }
        }

        return found;
    }

    /// <summary>Copies large files from another repository on the server; gives the hashes of those that it copied.</summary>
    public HashSet<string> Duplicate(string source, IReadOnlyList<RepositoryFile> files, CancellationToken cancellation)
    {
        var copied = new HashSet<string>(StringComparer.Ordinal);
        foreach (var some in files.Chunk(500))
        {
            var body = new JsonObject
            {
                ["target"] = new JsonObject { ["type"] = "model", ["name"] = target.Repository },
                ["files"] = new JsonArray([.. some.Select(f => new JsonObject
                {
                    ["xetHash"] = f.XetHash, ["sha256"] = f.Sha256, ["filename"] = f.Path,
                })]),
            };
            var answer = client.Json(HubCall.Post($"/api/models/{source}/lfs-files/duplicate", "Copying files on the Hub", body) with
            {
                Repository = source,
            }, cancellation);
            var failed = answer["failed"].Items.Select(f => f.IsObject ? f["sha256"].Text : f.Text).ToHashSet();
            copied.UnionWith(some.Select(f => f.Sha256!).Where(oid => !failed.Contains(oid)));
        }

        return copied;
    }

    /// <summary>Commits once: a lost answer is an error that may pass.</summary>
    public (string Commit, string? Url, string? PullRequest) Commit(byte[] lines, CancellationToken cancellation)
    {
        var answer = client.Json(new HubCall(HttpMethod.Post, $"{Api}/commit/{Revision}{target.Query}", "The commit")
        {
            Content = () => HubCall.Bytes(lines, "application/x-ndjson"),
            Repository = target.Repository,
            Revision = target.Revision,
            Retry = HubRetry.Never,
        }, cancellation);
        return (answer["commitOid"].RequiredCommit, answer["commitUrl"].Text, answer["pullRequestUrl"].Text);
    }

    /// <summary>The pull requests: their refs and commits.</summary>
    public Dictionary<string, string> PullRequests(CancellationToken cancellation) =>
        client.Json(Get("/refs?include_prs=1", "Listing the pull requests"), cancellation)["pullRequests"].Items
            .DistinctBy(r => r["ref"].RequiredText).ToDictionary(r => r["ref"].RequiredText, r => r["targetCommit"].RequiredCommit);

    private HubCall Get(string path, string what) =>
        new(HttpMethod.Get, Api + path, what) { Repository = target.Repository, Revision = target.Revision };

    private void IgnoreExisting(HubCall call, CancellationToken cancellation)
    {
        try
        {
            client.Json(call with { Repository = target.Repository }, cancellation);
        }
        catch (HubException e) when (e.Status == System.Net.HttpStatusCode.Conflict)
        {
            client.Say($"{call.What}: it is there.");
        }
    }

    // A repository can only be made below an account that the token stands for.
    private void RequireNamespace(CancellationToken cancellation)
    {
        if (client.IsJob)
        {
            return;
        }

        HubAnswer me;
        try
        {
            me = client.Json(new HubCall(HttpMethod.Get, "/api/whoami-v2", "Asking whose token it is") { Retry = HubRetry.Never },
                cancellation);
        }
        catch (HubException e) when (e.MayRepeat || e.Status == System.Net.HttpStatusCode.NotFound)
        {
            client.Say($"{e.Message} Whether '{target.Repository}' may be created shows when it is.");
            return;
        }

        var owner = target.Repository.Split('/')[0];
        var mine = me["orgs"].Items.Prepend(me).Select(o => o["name"].RequiredText).ToList();
        if (!mine.Contains(owner, StringComparer.OrdinalIgnoreCase))
        {
            throw new HubException(MergeError.HubAccessDenied,
                $"'{target.Repository}' is not there, and the token of {mine[0]} may not create it: '{owner}' is another account.",
                target.Repository, $"Check the name; or use one of {string.Join(", ", mine)}; or another -Token.");
        }
    }
}

/// <summary>How a file goes to the Hub, and the hash of what is there under its name.</summary>
internal sealed record Preupload(bool IsLfs, bool IsIgnored, string? Oid);
