using System.Management.Automation;
using UnslothMerge.Planning;

namespace UnslothMerge.PowerShell.Common;

/// <summary>The parameters that shape what adapters change: merging takes them, and so does testing what was merged.</summary>
public abstract class DeltaCommand : EngineCommand
{
    /// <summary>How the deltas of several adapters on one tensor become one.</summary>
    [Parameter]
    public CombinationType CombinationType { get; set; } = CombinationType.sum;

    /// <summary>The share of each delta's elements that stays (0 &lt; x ≤ 1), for every combination but the sum.</summary>
    [Parameter]
    [ValidateRange(double.Epsilon, 1.0)]
    [PSDefaultValue(Help = "None")]
    public double Density { get; set; }

    /// <summary>The seed of the combinations that drop at random: the same seed gives the same model.</summary>
    [Parameter]
    public int Seed { get; set; }

    /// <summary>Keeps embedding and head tied: a change of one side is folded into the shared weight. Without it both are written where
    /// they differ.</summary>
    [Parameter]
    public SwitchParameter KeepTied { get; set; }

    /// <summary>Says that the base is the residual one that was saved when the adapter was initialised (PiSSA, OLoRA, CorDA,
    /// LoRA-GA).</summary>
    [Parameter]
    public SwitchParameter BaseIsResidual { get; set; }

    /// <summary>Which dimension of square expert parameters is as wide as an adapter's A, where nothing else tells.</summary>
    [Parameter]
    public MoeOrientation? MoeOrientation { get; set; }

    /// <summary>How B of fused expert adapters is arranged, where adapter_config.json does not say: rank by rank (PEFT), or expert by
    /// expert (older Unsloth).</summary>
    [Parameter]
    public MoeLoraLayout? MoeLoraLayout { get; set; }

    /// <summary>What these parameters say.</summary>
    private protected PlanOptions Options { get; private set; } = null!;

    /// <inheritdoc/>
    protected override void BeginProcessing() => Options = Engine(() => new PlanOptions
    {
        Combination = Enum.Parse<Adapters.Combining.CombinationType>(
            CombinationType.ToString().Replace("_", "", StringComparison.Ordinal), ignoreCase: true),
        Density = MyInvocation.BoundParameters.ContainsKey(nameof(Density)) ? Density : null,
        Seed = Seed,
        KeepTied = KeepTied,
        BaseIsResidual = BaseIsResidual,
        MoeOrientation = MoeOrientation is { } orientation ? Enum.Parse<Adapters.MoeOrientation>(orientation.ToString()) : null,
        MoeLoraLayout = MoeLoraLayout is { } layout ? Enum.Parse<Adapters.MoeLoraLayout>(layout.ToString()) : null,
    }.Validated());
}
