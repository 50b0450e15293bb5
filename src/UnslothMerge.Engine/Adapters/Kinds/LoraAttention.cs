namespace UnslothMerge.Adapters.Kinds;

/// <summary>LoRA on torch's MultiheadAttention: its own factors change <c>in_proj_weight</c>; those of <c>out_proj</c> are an ordinary
/// layer's. Source: PEFT 0.21, <c>lora.MultiheadAttention</c>.</summary>
internal sealed class LoraAttention() : AdapterKind("LoRA", "LORA", [LoraLayer.A, LoraLayer.B, LoraLayer.Bias])
{
    private const string InProjection = "in_proj_weight";
    private const string OutProjection = ".out_proj";

    // The last version that adds the delta of out_proj twice, in its forward pass as in its merge (huggingface/peft#3774).
    private static readonly Version LastThatAddsTwice = new(0, 21);

    /// <summary>Why the delta of a module is added twice: it is that of an attention's <c>out_proj</c>, and the PEFT that trained it did
    /// so. Null if it is added once.</summary>
    public static string? AddedTwice(AdaptedModule module)
    {
        var version = module.Config.PeftVersion;
        return module.Find(LoraLayer.A)?.Name.Contains($".base_layer{OutProjection}.", StringComparison.Ordinal) != true
            || module.Base.Find(module.Name[..^OutProjection.Length], InProjection) is null
            || (version is not null && new Version(version.Major, version.Minor) > LastThatAddsTwice)
            ? null
            : $"The deltas of MultiheadAttention's out_proj are added twice: "
                + $"the PEFT that trained the adapter (peft_version {version?.ToString() ?? "unknown"}) did so in its forward pass.";
    }

    protected override ModuleChanges? Changes(AdaptedModule module)
    {
        if (module.FindParameter(InProjection) is not { } weight)
        {
            return null;
        }

        var pair = LoraPair.Of(module, LoraLayer.A, LoraLayer.B);
        AdaptedModule.RequireFit(weight, pair.Outputs, pair.Inputs);
        return new ModuleChanges(new TensorChange(weight, pair.Delta(Name)))
        {
            // PEFT trains a bias, but no forward pass reads it.
            NotNeeded = module.Find(LoraLayer.Bias) is { } bias ? [bias] : [],
        };
    }
}
