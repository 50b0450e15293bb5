using UnslothMerge.Adapters.Terms;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>
/// LoRA on torch's MultiheadAttention: its own factors change <c>in_proj_weight</c>; those of <c>out_proj</c> are an ordinary layer's.
/// Source: PEFT 0.21, <c>lora.MultiheadAttention</c>.
/// </summary>
public sealed class LoraAttention : AdapterKind
{
    private const string InProjection = "in_proj_weight";
    private const string OutProjection = ".out_proj";

    // The last version that adds the delta of out_proj twice, in its forward pass as in its merge (huggingface/peft#3774).
    private static readonly Version LastThatAddsTwice = new(0, 21);

    /// <inheritdoc/>
    public override string Name => "LoRA";

    /// <inheritdoc/>
    public override string PeftType => "LORA";

    /// <inheritdoc/>
    public override IReadOnlyList<string> Parts { get; } = [LoraLayer.A, LoraLayer.B, LoraLayer.Bias];

    /// <summary>How often the delta of a module is added: twice for the <c>out_proj</c> of an attention trained by a PEFT that does so; otherwise once.</summary>
    internal static int Times(ModuleAdapter module, IAdapterTarget target)
    {
        var version = module.Config.PeftVersion;
        if (!module.Module.EndsWith(OutProjection, StringComparison.Ordinal)
            || target.Find(module.Module[..^OutProjection.Length], InProjection) is null
            || (version is not null && new Version(version.Major, version.Minor) > LastThatAddsTwice))
        {
            return 1;
        }

        target.Warn($"The deltas of MultiheadAttention's out_proj are added twice: the PEFT that trained the adapter (peft_version {version?.ToString() ?? "unknown"}) did so in its forward pass.");
        return 2;
    }

    /// <inheritdoc/>
    public override bool Bind(ModuleAdapter module, IAdapterTarget target)
    {
        if (target.Find(module.Module, InProjection) is not { } weight)
        {
            return false;
        }

        if (LoraPair.Find(module, target, LoraLayer.A, LoraLayer.B) is not { } pair)
        {
            return true;
        }

        long[] delta = [pair.Outputs, pair.Inputs];
        if (!weight.Shape.SequenceEqual(delta))
        {
            target.Problem(module, $"the delta is {delta.Text()}, the weight {weight.Name} is {weight.Shape.Text()}");
            return true;
        }

        target.Add(weight, module.Module, new LowRankTerm(Name, pair.MatrixB, pair.MatrixA, pair.Scaling));
        if (module.Find(LoraLayer.Bias) is { } bias)
        {
            // PEFT trains it, but no forward pass reads it.
            target.Ignore(bias, module.Module, Name);
        }

        return true;
    }
}
