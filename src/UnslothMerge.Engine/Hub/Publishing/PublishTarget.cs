namespace UnslothMerge.Hub.Publishing;

/// <summary>Where a model is published, and how the commit is described.</summary>
internal sealed record PublishTarget(string Repository)
{
    /// <summary>The branch that gets the commit, or the pull request (<c>refs/pr/7</c>) that is gone on with.</summary>
    public string Revision { get; init; } = "main";

    /// <summary>True if the commit becomes a new pull request.</summary>
    public bool CreatePullRequest { get; init; }

    /// <summary>True if a new repository is private, and an existing one must be.</summary>
    public bool Private { get; init; }

    /// <summary>The first line of the commit; null for a usual one.</summary>
    public string? Message { get; init; }

    /// <summary>What else the commit says.</summary>
    public string? Description { get; init; }

    /// <summary>The query of calls that may make a pull request.</summary>
    public string Query => CreatePullRequest ? "?create_pr=1" : "";

    public override string ToString() => Revision == "main" ? Repository : $"{Repository}@{Revision}";
}
