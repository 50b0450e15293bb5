using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>RandLoRA: a weighted sum of random bases (arXiv 2502.00987; PEFT 0.21).</summary>
internal sealed class RandLoraReference : ReferenceKind
{
    public override Reference Of(AdapterModule module, ReferenceTarget target)
    {
        var (lambda, gamma) = (module.Matrix("randlora_lambda"), module.Matrix("randlora_gamma"));
        var (rank, bases) = (lambda.RowCount, lambda.ColumnCount);
        var (least, wide) = (Math.Min(target.Outputs, target.Inputs), target.Outputs < target.Inputs);

        // B [≥ max, ≥ n, r] as a matrix has the last two dimensions in one; A is [r, 1, ≥ min].
        var (a, b) = (module.Shared("randlora_A"), module.Shared("randlora_B"));
        var scale = module.Number("randlora_alpha")!.Value / rank;
        return new AddedReference((rows, _) => Matrices.Make(rows, target.Inputs, (i, j) => scale * (wide ? Entry(j, i) : Entry(i, j))), target.Factor);

        // D = L·M, L the bases flattened by [basis, rank] and M by [rank, basis]: the inner orders differ.
        double Entry(long row, long column)
        {
            var sum = 0.0;
            for (var inner = 0; inner < rank * bases; inner++)
            {
                var (k, n) = (inner / bases, inner % bases);
                sum += b[(int)row, inner] * lambda[k, n] * gamma[n, (int)column] * a[k, (int)column];
            }

            return column < least ? sum : 0;
        }
    }
}
