namespace UnslothMerge.PowerShell.Common;

/// <summary>The parameters of the deltas, for merging and testing.</summary>
public abstract class DeltaCommand : HubCommand
{
    /// <summary>The names of the parameters.</summary>
    private protected static readonly string[] DeltaParameters =
        [
            nameof(CombinationType), nameof(Density), nameof(Seed), nameof(KeepTied), nameof(BaseIsResidual), nameof(AllowMergedBase),
            nameof(MoeOrientation), nameof(MoeLoraLayout)];

    /// <summary>How the deltas of several adapters of a tensor are combined.</summary>
    [Parameter]
    [Choice<CombinationType>]
    [ArgumentCompleter(typeof(ChoiceCompleter<CombinationType>))]
    [ValidateNotNullOrEmpty]
    public string CombinationType { get; set; } = nameof(PowerShell.CombinationType.sum);

    /// <summary>The share of elements of each delta to keep (0 &lt; x ≤ 1), for every combination except sum.</summary>
    [Parameter]
    [ValidateRange(double.Epsilon, 1.0)]
    [ArgumentCompleter(typeof(DensityCompleter))]
    [PSDefaultValue(Help = "None")]
    public double Density { get; set; }

    /// <summary>The seed for random dropping: the same seed gives the same model.</summary>
    [Parameter]
    public int Seed { get; set; }

    /// <summary>Keeps embedding and head tied: the change of one is added to the shared weight. By default both are written if they
    /// differ.</summary>
    [Parameter]
    public SwitchParameter KeepTied { get; set; }

    /// <summary>States that the base is the residual model of the adapter's initialization (PiSSA, OLoRA, CorDA, LoRA-GA).</summary>
    [Parameter]
    public SwitchParameter BaseIsResidual { get; set; }

    /// <summary>Merges an adapter although the base seems to contain it already: as merge.json says, or the adapter's own folder.</summary>
    [Parameter]
    public SwitchParameter AllowMergedBase { get; set; }

    /// <summary>Which dimension of square expert parameters is the input of A, if nothing else determines it.</summary>
    [Parameter]
    [Choice<MoeOrientation>]
    [ArgumentCompleter(typeof(ChoiceCompleter<MoeOrientation>))]
    public string? MoeOrientation { get; set; }

    /// <summary>The column order of B of fused expert adapters, if adapter_config.json does not state it.</summary>
    [Parameter]
    [Choice<MoeLoraLayout>]
    [ArgumentCompleter(typeof(ChoiceCompleter<MoeLoraLayout>))]
    public string? MoeLoraLayout { get; set; }

    /// <summary>The parsed parameters.</summary>
    private protected PlanOptions Options { get; private set; } = null!;

    private protected override void Begin()
    {
        base.Begin();
        Options = Engine(Parse);
    }

    private PlanOptions Parse() => new PlanOptions
    {
        Combination = Enum.Parse<Adapters.Combining.CombinationType>(
            CombinationType.Replace("_", "", StringComparison.Ordinal), ignoreCase: true),
        Density = MyInvocation.BoundParameters.ContainsKey(nameof(Density)) ? Density : null,
        Seed = Seed,
        KeepTied = KeepTied,
        BaseIsResidual = BaseIsResidual,
        AllowMergedBase = AllowMergedBase,
        MoeOrientation = MoeOrientation is { Length: > 0 } orientation ? Enum.Parse<Adapters.MoeOrientation>(orientation) : null,
        MoeLoraLayout = MoeLoraLayout is { Length: > 0 } layout ? Enum.Parse<Adapters.MoeLoraLayout>(layout) : null,
    }.Validated();
}
