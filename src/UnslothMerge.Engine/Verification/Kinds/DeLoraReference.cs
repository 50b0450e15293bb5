using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>DeLoRA: W + B·diag(λ / (r·‖aᵢ‖·‖bᵢ‖))·A, column c times w_norm[c] (arXiv 2503.18225; PEFT 0.21).</summary>
internal sealed class DeLoraReference : ReferenceKind
{
    public override Reference Of(AdapterModule module, ReferenceTarget target)
    {
        var (a, b, norms) = (module.Matrix("delora_A"), module.Matrix("delora_B"), module.Vector("delora_w_norm"));
        var bound = module.Values("delora_lambda")[0];
        var factors = Vector<double>.Build.Dense(a.RowCount, i => bound / (a.RowCount * Math.Max(a.Row(i).L2Norm(), 1e-4) * Math.Max(b.Column(i).L2Norm(), 1e-4)));
        return new AddedReference((rows, _) => b.Pick(rows).TimesColumns(factors) * a.TimesColumns(norms), target.Factor);
    }
}
