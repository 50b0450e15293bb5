namespace UnslothMerge.Adapters.Kinds;

/// <summary>LN tuning trains copies of whole layers. They are saved as the layers' own parameters and take their place as saved modules do,
/// so nothing is left to bind. Source: LN tuning (arXiv 2312.11420); PEFT 0.21, <c>LNTuningLayer</c>.</summary>
internal sealed class LnTuning() : AdapterKind("LN tuning", "LN_TUNING", [])
{
    protected override ModuleChanges? Changes(AdaptedModule module) => null;
}
