namespace UnslothMerge.Adapters;

/// <summary>Which dimension of a fused expert parameter [experts, …, …] an adapter's A multiplies.</summary>
internal enum MoeOrientation
{
    /// <summary>The second dimension: A is as wide as it. PEFT up to 0.18.</summary>
    InFirst,

    /// <summary>The last dimension: A is as wide as it. PEFT from 0.19.1 on.</summary>
    InLast,
}

/// <summary>How the columns of a fused expert adapter's B [out, rank · experts] are arranged.</summary>
internal enum MoeLoraLayout
{
    /// <summary>Rank by rank, all experts of a rank side by side: column k·E + e. PEFT.</summary>
    RankMajor,

    /// <summary>Expert by expert: column e·r + k. Unsloth before it followed PEFT.</summary>
    Grouped,
}
