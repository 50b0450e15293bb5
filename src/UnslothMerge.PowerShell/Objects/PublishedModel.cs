using UnslothMerge.Hub.Publishing;

namespace UnslothMerge.PowerShell;

/// <summary>A model that was published as one commit.</summary>
public sealed class PublishedModel
{
    internal PublishedModel(PublishResult result, TimeSpan time)
    {
        Repository = result.Target.Repository;
        Revision = result.Target.Revision;
        Commit = result.Commit;
        IsNew = result.IsNew;
        Url = result.Url;
        PullRequest = result.PullRequest;
        BytesSent = result.BytesSent;
        Files = [.. result.Files.Select(f => new PublishedModelFile(f))];
        Seconds = time.TotalSeconds;
    }

    /// <summary>The repository.</summary>
    public string Repository { get; }

    /// <summary>The branch or pull request that the commit is on.</summary>
    public string Revision { get; }

    /// <summary>The id of the commit.</summary>
    public string Commit { get; }

    /// <summary>False if the repository held exactly this model already, so that no commit was made.</summary>
    public bool IsNew { get; }

    /// <summary>The address of the commit.</summary>
    public string Url { get; }

    /// <summary>The address of the new pull request; null if there is none.</summary>
    public string? PullRequest { get; }

    /// <summary>The bytes of large files that were sent, repetitions included.</summary>
    public long BytesSent { get; }

    /// <summary>The bytes that the Hub had already.</summary>
    public long BytesSkipped => Files.Where(f => f.Outcome == nameof(FileOutcome.Known)).Sum(f => f.Bytes);

    /// <summary>The bytes that the Hub copied from the base's repository.</summary>
    public long BytesCopied => Files.Where(f => f.Outcome == nameof(FileOutcome.Copied)).Sum(f => f.Bytes);

    /// <summary>The duration in seconds.</summary>
    public double Seconds { get; }

    /// <summary>Its files, and those that it replaced.</summary>
    public PublishedModelFile[] Files { get; }

    public override string ToString() => Url;
}

/// <summary>A file of a published model.</summary>
public sealed class PublishedModelFile
{
    internal PublishedModelFile(PublishedFile file)
    {
        Name = file.Name;
        Bytes = file.Bytes;
        Outcome = file.Outcome.ToString();
    }

    /// <summary>The path in the repository.</summary>
    public string Name { get; }

    /// <summary>The length in bytes.</summary>
    public long Bytes { get; }

    /// <summary>What happened to it: Sent, Known (the Hub had it), Copied (by the Hub, from the base) or Deleted.</summary>
    public string Outcome { get; }

    public override string ToString() => Name;
}
