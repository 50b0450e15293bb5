namespace UnslothMerge.Planning;

/// <summary>What the caller decides about the deltas of a merge.</summary>
public sealed record PlanOptions
{
    /// <summary>The defaults.</summary>
    public static PlanOptions Default { get; } = new();

    /// <summary>True if the base is the residual one that was saved when the adapter was initialised, for kinds whose start changes the base (PiSSA …).</summary>
    public bool BaseIsResidual { get; init; }
}
