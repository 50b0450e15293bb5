using UnslothMerge.Adapters;

namespace UnslothMerge.Planning;

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
