using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>VeRA: W + diag(b)·B[:out]·diag(d)·A[:, :in], where all modules share A [r, ≥ in] and B [≥ out, r]. In its probabilistic form,
/// PVeRA, A and d have twice the rows: means, then log-variances; without sampling only the means count. Source: arXiv 2310.11454; PEFT
/// 0.21, <c>vera</c>, <c>pvera</c>.</summary>
internal sealed class Vera(string name, string prefix, bool probabilistic)
    : MatrixKind(name, prefix.ToUpperInvariant(), [prefix + "_lambda_b", prefix + "_lambda_d"], [prefix + "_A", prefix + "_B"])
{
    protected override MatrixDelta Build(AdaptedModule module)
    {
        var (a, b) = (module.SharedNumbers(prefix + "_A", 2), module.SharedNumbers(prefix + "_B", 2));
        var (outer, inner) = (module.Numbers(prefix + "_lambda_b", 1), module.Numbers(prefix + "_lambda_d", 1));
        var (rank, outputs) = ((int)b.Shape[1], (int)outer.Shape[0]);
        var rows = probabilistic ? 2 * rank : rank;
        var transposed = module.IsTransposed(outputs, null);
        var (_, inputs) = module.Features(transposed);
        AdaptedModule.Require(
            a.Shape[0] == rows && inner.Shape[0] == rows && b.Shape[0] >= outputs && a.Shape[1] >= inputs,
            $"{prefix}_A {a.Shape.Text()}, {prefix}_B {b.Shape.Text()}, {prefix}_lambda_d {inner.Shape.Text()} and the weight "
            + $"{module.Weight.Name} {module.Weight.Shape.Text()} do not fit together");
        return new MatrixDelta([outer, inner, a, b], from => new ProductMatrix(
            Matrices.ScaleRows(from.ReadCorner<double>(b, outputs, rank), from.Read(outer)),
            Matrices.ScaleRows(from.ReadCorner<double>(a, rank, inputs), from.Read(inner).AsSpan(0, rank)),
            rank,
            inputs))
        { IsTransposed = transposed, Rank = rank, HeldBytes = (long)rank * (outputs + inputs) * sizeof(double) };
    }
}
