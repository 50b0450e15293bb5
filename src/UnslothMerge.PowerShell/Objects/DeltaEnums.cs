using System.ComponentModel;

namespace UnslothMerge.PowerShell;

/// <summary>How the deltas of several adapters of a tensor are combined, by PEFT's names.</summary>
#pragma warning disable CA1707 // PEFT's spellings
public enum CombinationType
{
    [Description("The weighted sum.")]
    sum,

    [Description(
        "TIES: keeps the largest elements of each delta, elects a sign per element, and averages the values "
        + "with that sign.")]
    ties,

    [Description("DARE: drops random elements, rescales the others, and sums.")]
    dare_linear,

    [Description("Drops random elements, elects a sign per element, and sums the values with that sign.")]
    dare_ties,

    [Description("Keeps the largest elements of each delta, and sums.")]
    magnitude_prune,
}
#pragma warning restore CA1707

/// <summary>Which dimension of an expert parameter [experts, first, last] is the input of A.</summary>
public enum MoeOrientation
{
    [Description("The first: PEFT up to 0.18.")]
    InFirst,

    [Description("The last: PEFT from 0.19.1.")]
    InLast,
}

/// <summary>The order of the columns of B [out, rank · experts] of a fused expert adapter.</summary>
public enum MoeLoraLayout
{
    [Description("Rank by rank: PEFT.")]
    RankMajor,

    [Description("Expert by expert: older Unsloth.")]
    Grouped,
}
