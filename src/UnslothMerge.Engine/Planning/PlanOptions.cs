using UnslothMerge.Adapters;
using UnslothMerge.Adapters.Combining;

namespace UnslothMerge.Planning;

/// <summary>What shapes the deltas of a merge beyond the adapters themselves, and what only the caller can know about them.</summary>
internal sealed record PlanOptions
{
    /// <summary>How the deltas of several adapters on one tensor become one. Replacements of whole tensors are not deltas and stay as they
    /// are.</summary>
    public CombinationType Combination { get; init; } = CombinationType.Sum;

    /// <summary>The share of each delta's elements that stays, in (0, 1]; needed by all combinations but the sum.</summary>
    public double? Density { get; init; }

    /// <summary>The seed of the combinations that drop at random: the same seed gives the same model.</summary>
    public int Seed { get; init; }

    /// <summary>How expert parameters are adapted that are square, so that their shape does not show it.</summary>
    public MoeOrientation? MoeOrientation { get; init; }

    /// <summary>How B of fused experts is arranged; if not said, as adapter_config.json's <c>lora_B_layout</c> says, or rank by
    /// rank.</summary>
    public MoeLoraLayout? MoeLoraLayout { get; init; }

    /// <summary>True if the base is the residual one that was saved when the adapter was initialised, for kinds whose start changes the
    /// base (PiSSA …).</summary>
    public bool BaseIsResidual { get; init; }

    /// <summary>True to keep head and embedding tied: a change of one side is folded into the shared weight.</summary>
    public bool KeepTied { get; init; }

    /// <summary>True to merge an adapter although the base holds it already.</summary>
    public bool AllowMergedBase { get; init; }

    /// <summary>The options that are set, as merge.json has them.</summary>
    internal JsonObject Described => new(new (string Name, JsonNode? Value)[]
    {
        ("combination_type", Density is null ? null : Combination.Name()), ("density", Density), ("seed", Density is null ? null : Seed),
        ("moe_orientation", MoeOrientation?.ToString()), ("moe_lora_layout", MoeLoraLayout?.ToString()),
        ("base_is_residual", BaseIsResidual ? true : null), ("keep_tied", KeepTied ? true : null),
        ("allow_merged_base", AllowMergedBase ? true : null),
    }.Where(o => o.Value is not null).Select(o => KeyValuePair.Create(o.Name, o.Value)));

    /// <summary>These options, if they agree.</summary>
    public PlanOptions Validated()
    {
        if (Combination == CombinationType.Sum && Density is not null)
        {
            throw new MergeException(
                MergeError.InvalidOption, "A density is given, but sum drops nothing.", nameof(Density),
                "Use another -CombinationType (ties, dare_linear, dare_ties, magnitude_prune), or omit -Density.");
        }

        if (Combination != CombinationType.Sum && Density is not (> 0 and <= 1))
        {
            throw new MergeException(
                MergeError.InvalidOption,
                Density is { } density
                    ? $"The density is {density}; it must be greater than 0 and at most 1."
                    : $"{Combination.Name()} needs a density: the share of elements of each delta to keep.",
                nameof(Density),
                "The authors of TIES use 0.2, those of DARE 0.1 and more.");
        }

        return this;
    }
}
