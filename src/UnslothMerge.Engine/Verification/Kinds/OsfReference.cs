using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>OSF: the smallest singular components of W make way for the trained ones (arXiv 2504.07097; PEFT 0.21).</summary>
internal sealed class OsfReference : ReferenceKind
{
    public override Reference Of(AdapterModule module, ReferenceTarget target)
    {
        var (u, s, v) = (module.Matrix("osf_svd_params.U_low"), module.Vector("osf_svd_params.S_low"), module.Matrix("osf_svd_params.V_low"));
        return new MappedReference((_, weight) => weight.WithoutSmallest(s.Count) + (u.TimesColumns(s) * v)) { All = true };
    }
}
