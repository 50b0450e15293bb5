using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>AdaLoRA: W + a/(init_r + 1e-5)·B·diag(E)·A (arXiv 2303.10512; PEFT 0.21).</summary>
internal sealed class AdaLoraReference : ReferenceKind
{
    public override (long? Outputs, long? Inputs) Size(AdapterModule module) => (module.Shape("lora_B")[0], module.Shape("lora_A")[1]);

    public override Reference Of(AdapterModule module, ReferenceTarget target)
    {
        var (a, b, e) = (module.Matrix("lora_A"), module.Matrix("lora_B"), module.Vector("lora_E"));
        var rank = module.Number("init_r")!.Value;
        var alpha = module.Number("lora_alpha") is > 0 and var stated ? stated : rank;
        return new AddedReference((rows, _) => alpha / (rank + 1e-5) * (b.Pick(rows).TimesColumns(e) * a), target.Factor);
    }
}
