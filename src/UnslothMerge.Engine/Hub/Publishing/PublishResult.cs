namespace UnslothMerge.Hub.Publishing;

/// <summary>What happened to a file of a publication.</summary>
internal enum FileOutcome
{
    /// <summary>It was sent.</summary>
    Sent,

    /// <summary>The Hub had its content already, in the repository or elsewhere in its storage.</summary>
    Known,

    /// <summary>The Hub copied it from the base's repository.</summary>
    Copied,

    /// <summary>It was in the repository, and the new model replaces it.</summary>
    Deleted,
}

/// <summary>A file of a publication.</summary>
internal sealed record PublishedFile(string Name, long Bytes, FileOutcome Outcome);

/// <summary>A publication that is done. The commit is the one that was there if nothing had changed; the bytes sent hold
/// repetitions.</summary>
internal sealed record PublishResult(
    PublishTarget Target, string Commit, bool IsNew, string Url, string? PullRequest, ImmutableArray<PublishedFile> Files, long BytesSent);
