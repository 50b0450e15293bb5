namespace UnslothMerge.Hub.Publishing;

/// <summary>A publication under way: what was sent, and the commit that it will be.</summary>
internal sealed class Publication(HubClient client, PublishTarget target, CommitRequest commit, LfsUploader uploader, string parent)
{
    private readonly List<PublishedFile> _files = [];

    /// <summary>Sends the large files.</summary>
    public LfsUploader Uploader => uploader;

    /// <summary>The hashes of large files that were sent.</summary>
    public HashSet<string> Sent { get; } = new(StringComparer.Ordinal);

    /// <summary>The hashes of large files that the Hub copied.</summary>
    public HashSet<string> Copied { get; } = new(StringComparer.Ordinal);

    /// <summary>Adds a file to the commit, unless the same is there.</summary>
    public void Add(UploadFile file, bool isLarge, string? present)
    {
        var hash = isLarge ? file.Sha256 : file.GitHash();
        var outcome = hash == present || (isLarge && !Sent.Contains(hash!) && !Copied.Contains(hash!)) ? FileOutcome.Known
            : isLarge && Copied.Contains(hash!) ? FileOutcome.Copied
            : FileOutcome.Sent;
        _files.Add(new PublishedFile(file.Name, file.Size, outcome));
        if (hash == present)
        {
            return;
        }

        if (isLarge)
        {
            commit.AddLarge(file, outcome == FileOutcome.Copied);
        }
        else
        {
            commit.Add(file);
        }
    }

    /// <summary>Makes everything visible.</summary>
    public PublishResult Commit(PublishPlan plan, string summary, CancellationToken cancellation)
    {
        foreach (var name in plan.Deleted)
        {
            commit.Delete(name);
            _files.Add(new PublishedFile(name, plan.State.Files[name].Size, FileOutcome.Deleted));
        }

        var (id, url, pullRequest) = commit.IsEmpty ? (parent, null, null)
            : commit.Send(target.Message ?? summary, target.Description, cancellation);
        return new PublishResult(target, id, !commit.IsEmpty,
            url ?? $"{client.Settings.Endpoint.ToString().TrimEnd('/')}/{target.Repository}/commit/{id}", pullRequest, [.. _files],
            uploader.Sent);
    }
}
