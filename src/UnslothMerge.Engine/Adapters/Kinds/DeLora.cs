using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>DeLoRA: W + B·diag(λ/(r·max(‖Aᵢ‖, 1e-4)·max(‖Bⁱ‖, 1e-4)))·A·diag(w_norm), with A [r, in], B [out, r]; w_norm [in] is the
/// file's, not the base's. Source: arXiv 2503.18225; PEFT 0.21, <c>delora</c>.</summary>
internal sealed class DeLora() : MatrixKind("DeLoRA", "DELORA", ["delora_A", "delora_B", "delora_lambda", "delora_w_norm"])
{
    private const double LeastNorm = 1e-4;

    protected override MatrixDelta Build(AdaptedModule module)
    {
        var (a, b) = (module.Numbers("delora_A", 2), module.Numbers("delora_B", 2));
        var (bound, norms) = (module.Numbers("delora_lambda"), module.Numbers("delora_w_norm", 1));
        var (rank, inputs) = (module.RequireRank(a.Shape[0]), (int)a.Shape[1]);
        AdaptedModule.Require(
            b.Shape[1] == rank && bound.Shape.Count() == 1 && norms.Shape[0] == inputs,
            $"delora_A {a.Shape.Text()}, delora_B {b.Shape.Text()}, delora_lambda {bound.Shape.Text()} and delora_w_norm "
            + $"{norms.Shape.Text()} do not fit together");
        module.RequireFit(b.Shape[0], inputs);
        return new MatrixDelta([a, b, bound, norms], from =>
        {
            var (right, left) = (from.Read(a), from.Read(b));
            var columns = Matrices.Transpose(left, (int)b.Shape[0], rank);
            var strength = from.Read(bound)[0] / rank;
            double[] factors = [.. Enumerable.Range(0, rank).Select(i => strength / (Norm(right, i, rank) * Norm(columns, i, rank)))];
            return new ProductMatrix(Matrices.ScaleColumns(left, factors), Matrices.ScaleColumns(right, from.Read(norms)), rank, inputs);
        })
        { Rank = rank };
    }

    private static double Norm(double[] matrix, int row, int rows)
    {
        var length = matrix.Length / rows;
        var sum = 0.0;
        foreach (var value in matrix.AsSpan(row * length, length))
        {
            sum += value * value;
        }

        return Math.Max(Math.Sqrt(sum), LeastNorm);
    }
}
