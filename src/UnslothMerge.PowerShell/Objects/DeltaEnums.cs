namespace UnslothMerge.PowerShell;

/// <summary>How the deltas of several adapters on one tensor become one, in PEFT's spellings.</summary>
#pragma warning disable CA1707 // PEFT's spellings
public enum CombinationType
{
    /// <summary>The weighted sum; exact, nothing is dropped.</summary>
    sum,

    /// <summary>The largest of each delta stay, a sign is elected for each element, and what agrees is averaged (TIES).</summary>
    ties,

    /// <summary>Elements are dropped at random, the rest scaled up, and summed (DARE).</summary>
    dare_linear,

    /// <summary>Elements are dropped at random, a sign is elected for each element, and what agrees is summed.</summary>
    dare_ties,

    /// <summary>The largest of each delta stay, and are summed.</summary>
    magnitude_prune,
}
#pragma warning restore CA1707

/// <summary>Which dimension of an expert parameter [experts, first, last] is as wide as an adapter's A.</summary>
public enum MoeOrientation
{
    /// <summary>The first of the two: PEFT up to 0.18.</summary>
    InFirst,

    /// <summary>The last one: PEFT from 0.19.1 on.</summary>
    InLast,
}

/// <summary>How the columns of a fused expert adapter's B [out, rank · experts] are arranged.</summary>
public enum MoeLoraLayout
{
    /// <summary>Rank by rank: PEFT.</summary>
    RankMajor,

    /// <summary>Expert by expert: older Unsloth.</summary>
    Grouped,
}
