namespace UnslothMerge.Planning;

/// <summary>Which dimension of a fused expert parameter [experts, …, …] an adapter's A multiplies.</summary>
public enum MoeOrientation
{
    /// <summary>The second dimension: A is as wide as it. PEFT up to 0.18.</summary>
    InFirst,

    /// <summary>The last dimension: A is as wide as it. PEFT from 0.19.1 on.</summary>
    InLast,
}

/// <summary>How the columns of a fused expert adapter's B [out, rank · experts] are arranged.</summary>
public enum MoeLoraLayout
{
    /// <summary>Rank by rank, all experts of a rank side by side: column k·E + e. PEFT.</summary>
    RankMajor,

    /// <summary>Expert by expert: column e·r + k. Unsloth before it followed PEFT.</summary>
    Grouped,
}

/// <summary>What only the caller can know about adapters, where the files do not say.</summary>
public sealed record PlanOptions
{
    /// <summary>Nothing but what the files say.</summary>
    public static PlanOptions None { get; } = new();

    /// <summary>How expert parameters are adapted that are square, so that their shape does not tell.</summary>
    public MoeOrientation? MoeOrientation { get; init; }

    /// <summary>How B of fused experts is arranged; if not said, as adapter_config.json's <c>lora_B_layout</c> says, or rank by rank.</summary>
    public MoeLoraLayout? MoeLoraLayout { get; init; }
}
