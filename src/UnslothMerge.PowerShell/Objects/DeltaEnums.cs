namespace UnslothMerge.PowerShell;

/// <summary>How the deltas of several adapters of a tensor are combined, by PEFT's names.</summary>
#pragma warning disable CA1707 // PEFT's spellings
public enum CombinationType
{
    /// <summary>The weighted sum.</summary>
    sum,

    /// <summary>TIES: keeps the largest elements of each delta, elects a sign per element, and averages the values with that
    /// sign.</summary>
    ties,

    /// <summary>DARE: drops random elements, rescales the others, and sums.</summary>
    dare_linear,

    /// <summary>Drops random elements, elects a sign per element, and sums the values with that sign.</summary>
    dare_ties,

    /// <summary>Keeps the largest elements of each delta, and sums.</summary>
    magnitude_prune,
}
#pragma warning restore CA1707

/// <summary>Which dimension of an expert parameter [experts, first, last] is the input of A.</summary>
public enum MoeOrientation
{
    /// <summary>The first: PEFT up to 0.18.</summary>
    InFirst,

    /// <summary>The last: PEFT from 0.19.1.</summary>
    InLast,
}

/// <summary>The order of the columns of B [out, rank · experts] of a fused expert adapter.</summary>
public enum MoeLoraLayout
{
    /// <summary>Rank by rank: PEFT.</summary>
    RankMajor,

    /// <summary>Expert by expert: older Unsloth.</summary>
    Grouped,
}
