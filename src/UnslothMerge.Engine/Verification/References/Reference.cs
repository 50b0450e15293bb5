using MathNet.Numerics.LinearAlgebra;

namespace UnslothMerge.Verification.References;

/// <summary>
/// What an adapter makes of a weight, written down as the papers write it: plain float64 over some rows or all of them, without any of the merge's own code.
/// A weight is [outputs, inputs]; the kernel of a convolution belongs to its inputs; a bias is [outputs, 1].
/// </summary>
internal abstract class Reference
{
    /// <summary>True if it must be given all rows at once.</summary>
    public virtual bool NeedsAllRows => false;

    /// <summary>True if it must have <see cref="See">seen</see> all rows before it changes one.</summary>
    public virtual bool NeedsToSee => false;

    /// <summary>True if it knows what fp32 arithmetic may differ by, and adds that to <see cref="RowSet.Noise"/>.</summary>
    public virtual bool KnowsNoise => false;

    /// <summary>Sees some rows, as the references before this one left them.</summary>
    public virtual void See(RowSet set)
    {
    }

    /// <summary>Changes some rows.</summary>
    public abstract void Apply(RowSet set);
}

/// <summary>A change that is added: Δ of some rows, which may depend on the base's values.</summary>
/// <param name="delta">Rows and their base values → Δ.</param>
/// <param name="factor">The caller's factor.</param>
internal sealed class AddedReference(Func<IReadOnlyList<long>, Matrix<double>, Matrix<double>> delta, double factor) : Reference
{
    public bool All { get; init; }

    public override bool NeedsAllRows => All;

    public override void Apply(RowSet set) => set.ValueMatrix += factor * delta(set.Rows, set.WeightMatrix);
}

/// <summary>A change that is not added: rows and their values so far → new values.</summary>
internal sealed class MappedReference(Func<IReadOnlyList<long>, Matrix<double>, Matrix<double>> map) : Reference
{
    public bool All { get; init; }

    public override bool NeedsAllRows => All;

    public override void Apply(RowSet set) => set.ValueMatrix = map(set.Rows, set.ValueMatrix);
}

/// <summary>A reference for a layer whose weight is stored [inputs, outputs].</summary>
internal sealed class TransposedReference(Reference inner) : Reference
{
    public override bool NeedsAllRows => true;

    public override void Apply(RowSet set)
    {
        var turned = set.Transpose();
        inner.Apply(turned);
        set.ValueMatrix = turned.ValueMatrix.Transpose();
    }
}
