using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>VeRA: W + diag(b)·B·diag(d)·A with random A and B that all modules share; of PVeRA's A and d only the first half counts (arXiv 2310.11454; PEFT 0.21).</summary>
internal sealed class VeraReference(string prefix) : ReferenceKind
{
    public override (long? Outputs, long? Inputs) Size(AdapterModule module) => (module.Shape($"{prefix}_lambda_b")[0], null);

    public override Reference Of(AdapterModule module, ReferenceTarget target)
    {
        var (a, b) = (module.Shared($"{prefix}_A"), module.Shared($"{prefix}_B"));
        var (outer, inner, rank) = (module.Vector($"{prefix}_lambda_b"), module.Vector($"{prefix}_lambda_d"), b.ColumnCount);
        var right = a.SubMatrix(0, rank, 0, target.Inputs).TimesRows(inner.SubVector(0, rank));
        return new AddedReference((rows, _) => b.Pick(rows).TimesRows(Vector<double>.Build.Dense(rows.Count, i => outer[(int)rows[i]])) * right, target.Factor);
    }
}
