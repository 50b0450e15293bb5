using MathNet.Numerics.LinearAlgebra;

namespace UnslothMerge.Verification.References;

/// <summary>What an adapter makes of a weight, as the papers write it: plain float64 over some rows or all of them, without any of the
/// merge's code. A weight is [outputs, inputs]; the kernel of a convolution belongs to its inputs; a bias is [outputs, 1].</summary>
internal abstract class Reference
{
    /// <summary>True if it must be given all rows at once.</summary>
    public virtual bool NeedsAllRows => false;

    /// <summary>True if <see cref="Scan"/> must get all rows before <see cref="Apply"/> gets the first.</summary>
    public virtual bool NeedsScan => false;

    /// <summary>True if it adds the error bound of fp32 arithmetic to <see cref="RowSet.Noise"/>.</summary>
    public virtual bool KnowsNoise => false;

    /// <summary>Reads some rows, as the references before this one left them.</summary>
    public virtual void Scan(RowSet set)
    {
    }

    /// <summary>Changes some rows.</summary>
    public abstract void Apply(RowSet set);
}

/// <summary>A formula over rows: their numbers and values → a matrix of the same shape.</summary>
internal delegate Matrix<double> RowFormula(IReadOnlyList<long> rows, Matrix<double> weight);

/// <summary>A change that is one formula.</summary>
internal sealed class FormulaReference(Action<RowSet> change, bool all) : Reference
{
    public override bool NeedsAllRows => all;

    /// <summary>Adds factor·Δ, a function of the base's values.</summary>
    public static Reference Add(RowFormula delta, double factor, bool all = false) =>
        new FormulaReference(set => set.ValueMatrix += factor * delta(set.Rows, set.WeightMatrix), all);

    /// <summary>Replaces the values by a function of them.</summary>
    public static Reference Map(RowFormula map, bool all = false) =>
        new FormulaReference(set => set.ValueMatrix = map(set.Rows, set.ValueMatrix), all);

    /// <summary>A reference for a layer whose weight is stored [inputs, outputs].</summary>
    public static Reference Transpose(Reference reference) => new FormulaReference(
        set =>
        {
            var transposed = set.Transpose();
            reference.Apply(transposed);
            set.ValueMatrix = transposed.ValueMatrix.Transpose();
        },
        all: true);

    public override void Apply(RowSet set) => change(set);
}
