using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>BEFT: b + v (PEFT 0.21).</summary>
internal sealed class BeftReference : ReferenceKind
{
    public override Reference? Of(AdapterModule module, ReferenceTarget target)
    {
        var vector = module.Values("beft_bias");
        return target.IsBias ? new AddedReference((rows, _) => Matrices.Make(rows, 1, (i, _) => vector[i]), target.Factor) : null;
    }
}
