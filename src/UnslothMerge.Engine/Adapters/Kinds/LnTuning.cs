namespace UnslothMerge.Adapters.Kinds;

/// <summary>
/// LN tuning trains copies of whole layers. They are saved as the layers' own parameters and take their place as saved modules do, so nothing is
/// left to bind. Source: LN tuning (arXiv 2312.11420); PEFT 0.21, <c>LNTuningLayer</c>.
/// </summary>
public sealed class LnTuning : AdapterKind
{
    /// <inheritdoc/>
    public override string Name => "LN tuning";

    /// <inheritdoc/>
    public override string PeftType => "LN_TUNING";

    /// <inheritdoc/>
    public override IReadOnlyList<string> Parts { get; } = [];

    /// <inheritdoc/>
    public override bool Bind(ModuleAdapter module, IAdapterTarget target) => false;
}
