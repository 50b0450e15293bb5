using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>RandLoRA: n random bases of rank r, weighted. With max and min of (out, in), all modules share A [r, 1, ≥ min] and B [≥ max, ≥
/// n, r]; a module has λ [r, n] and γ [n, min]. L = B[:max, :n, :] flattened to [max, n·r]; M[k, j, i] = λ[k, j]·γ[j, i]·A[k, 0, i]
/// flattened to [r·n, min]: the inner orders differ. D = L·M; W + (alpha/r)·D, or Dᵀ if out &lt; in. Source: arXiv 2502.00987; PEFT 0.21,
/// <c>randlora</c>.</summary>
internal sealed class RandLora() : MatrixKind(
    "RandLoRA", "RANDLORA", ["randlora_lambda", "randlora_gamma", "randlora_A", "randlora_B"], ["randlora_A", "randlora_B"])
{
    protected override MatrixDelta Build(AdaptedModule module)
    {
        // Each module carries a copy of the shared bases; PEFT loads both into the same place.
        var (a, b) = (module.SharedNumbers("randlora_A", 3), module.SharedNumbers("randlora_B", 3));
        StoredTensor?[] copies = [module.OptionalNumbers("randlora_A", 3), module.OptionalNumbers("randlora_B", 3)];
        var (lambda, gamma) = (module.Numbers("randlora_lambda", 2), module.Numbers("randlora_gamma", 2));
        var (rank, bases) = ((int)lambda.Shape[0], (int)lambda.Shape[1]);
        var transposed = module.IsTransposed(null, null);
        var (outputs, inputs) = module.Features(transposed);
        var (least, most) = (Math.Min(outputs, inputs), Math.Max(outputs, inputs));
        AdaptedModule.Require(
            gamma.Shape.SequenceEqual([bases, least]) && a.Shape[0] == rank && a.Shape[1] == 1 && a.Shape[2] >= least && b.Shape[0] >= most
                && b.Shape[1] >= bases && b.Shape[2] == rank,
            $"randlora_A {a.Shape.Text()}, randlora_B {b.Shape.Text()}, randlora_lambda {lambda.Shape.Text()}, randlora_gamma "
            + $"{gamma.Shape.Text()} and the weight {module.Weight.Name} {module.Weight.Shape.Text()} do not fit together");
        foreach (var (copy, shared) in copies.Zip([a, b]))
        {
            AdaptedModule.Require(
                copy is null || copy.Shape.SequenceEqual(shared.Shape),
                $"'{copy?.Name}' {copy?.Shape.Text()} is no copy of '{shared.Name}' {shared.Shape.Text()}");
        }

        return new MatrixDelta([lambda, gamma, a, b, .. copies.OfType<StoredTensor>()], from => new WeightedBases(
            from.ReadCorner<float>(b, most, bases * rank),
            from.ReadCorner<double>(a, rank, least),
            from.Read(lambda),
            from.Read(gamma),
            (rank, bases, least)))
        {
            IsTransposed = transposed,
            IsTurned = outputs < inputs,
            Rank = Math.Min(rank * bases, least),
            HeldBytes = ((long)most * bases * rank * sizeof(float)) + ((long)(rank + bases) * least * sizeof(double)),
            Scaling = module.Config.ValueOf(module.Name, "randlora_alpha") / rank,
        };
    }

    // D[o, i] = Σ_j γ[j, i]·Σ_k L[o, k·n + j]·λ[k, j]·A[k, i]: M need not be made.
    private sealed class WeightedBases(
        float[] l, double[] a, double[] lambda, double[] gamma, (int Rank, int Bases, int Columns) size) : DeltaMatrix
    {
        public override void Fill(Block block, Span<double> values)
        {
            Span<double> sum = block.Columns <= Block.MaxValues ? stackalloc double[block.Columns] : new double[block.Columns];
            for (var i = 0; i < block.Rows; i++)
            {
                var factors = l.AsSpan((block.Row + i) * size.Rank * size.Bases, size.Rank * size.Bases);
                var target = values.Slice(i * block.Columns, block.Columns);
                target.Clear();
                for (var j = 0; j < size.Bases; j++)
                {
                    sum.Clear();
                    for (var k = 0; k < size.Rank; k++)
                    {
                        var factor = factors[(k * size.Bases) + j] * lambda[(k * size.Bases) + j];
                        TensorPrimitives.FusedMultiplyAdd(a.AsSpan((k * size.Columns) + block.Column, block.Columns), factor, sum, sum);
                    }

                    TensorPrimitives.FusedMultiplyAdd(gamma.AsSpan((j * size.Columns) + block.Column, block.Columns), sum, target, target);
                }
            }
        }
    }
}
