using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>TinyLoRA: W + B·(Σ vᵢPᵢ)·A with one small vector for all modules or a group of them (PEFT 0.21).</summary>
internal sealed class TinyLoraReference : ReferenceKind
{
    public override (long? Outputs, long? Inputs) Size(AdapterModule module) => (module.Shape("tinylora_B")[0], module.Shape("tinylora_A")[1]);

    public override Reference Of(AdapterModule module, ReferenceTarget target)
    {
        var v = module.Shared("tinylora_v");
        var (a, b, p) = (module.Matrix("tinylora_A"), module.Matrix("tinylora_B"), module.Matrix("tinylora_P"));
        var inner = Matrix<double>.Build.DenseOfRowMajor(a.RowCount, a.RowCount, (v.Transpose() * p).ToRowMajorArray());
        return new AddedReference((rows, _) => b.Pick(rows) * inner * a, target.Factor);
    }
}
