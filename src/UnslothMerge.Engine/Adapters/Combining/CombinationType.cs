namespace UnslothMerge.Adapters.Combining;

/// <summary>How the deltas of several adapters on one tensor become one. δᵢ is an adapter's whole delta of that tensor with its own
/// scaling, wᵢ the caller's weight, n the number of elements.</summary>
internal enum CombinationType
{
    /// <summary>Σ wᵢδᵢ: exact, nothing is dropped.</summary>
    Sum,

    /// <summary>Of each δᵢ the ⌊density·n⌋ elements of largest magnitude stay. An element's sign is that of the sum of all wᵢδᵢ (plus if it
    /// is zero), and only those wᵢδᵢ that have it are summed and divided by the sum of their weights: the mean of the agreeing ones, where
    /// all weights are 1. Source: TIES (arXiv 2306.01708), with weights as in mergekit's <c>ties</c>.</summary>
    Ties,

    /// <summary>Each element of δᵢ stays with the probability density and is divided by it; then Σ wᵢδᵢ. Source: DARE (arXiv
    /// 2311.03099).</summary>
    DareLinear,

    /// <summary>Elements are dropped and rescaled as by <see cref="DareLinear"/>, and signs elected as by <see cref="Ties"/>, and those
    /// that agree are summed. Source: mergekit's <c>dare_ties</c>.</summary>
    DareTies,

    /// <summary>Of each δᵢ the ⌊density·n⌋ elements of largest magnitude stay; then Σ wᵢδᵢ. Source: PEFT 0.21,
    /// <c>add_weighted_adapter</c>.</summary>
    MagnitudePrune,
}

/// <summary>Facts about <see cref="CombinationType"/>.</summary>
internal static class CombinationTypes
{
    /// <summary>The name that PEFT and mergekit use: <c>dare_linear</c> …</summary>
    public static string Name(this CombinationType type) => type switch
    {
        CombinationType.Sum => "sum",
        CombinationType.Ties => "ties",
        CombinationType.DareLinear => "dare_linear",
        CombinationType.DareTies => "dare_ties",
        CombinationType.MagnitudePrune => "magnitude_prune",
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "Not a way to combine adapters."),
    };

    /// <summary>True if only elements of the elected sign are summed.</summary>
    public static bool ElectsSigns(this CombinationType type) => type is CombinationType.Ties or CombinationType.DareTies;

    /// <summary>True if what agrees is averaged instead of summed.</summary>
    public static bool Averages(this CombinationType type) => type is CombinationType.Ties;
}
