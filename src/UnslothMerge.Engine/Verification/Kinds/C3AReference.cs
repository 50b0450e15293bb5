using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>C3A: W + circulant tiles / inputs (arXiv 2407.19342; PEFT 0.21).</summary>
internal sealed class C3AReference : ReferenceKind
{
    public override Reference Of(AdapterModule module, ReferenceTarget target)
    {
        var (kernel, shape) = (module.Values("c3a_kernel"), module.Shape("c3a_kernel"));
        var (across, n) = (shape[1], shape[2]);
        return new AddedReference(
            (rows, _) => Matrices.Make(rows, target.Inputs, (i, j) => kernel[((((i / n) * across) + (j / n)) * n) + ((((j % n) - (i % n)) + n) % n)] / target.Inputs),
            target.Factor);
    }
}
