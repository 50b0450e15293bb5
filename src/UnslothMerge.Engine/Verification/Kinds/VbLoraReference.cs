using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>VB-LoRA: A and B are made of mixtures of a bank of vectors (arXiv 2405.15179; PEFT 0.21).</summary>
internal sealed class VbLoraReference : ReferenceKind
{
    public override (long? Outputs, long? Inputs) Size(AdapterModule module)
    {
        var length = module.Shared("vblora_vector_bank").ColumnCount;
        return (Pieces(module, "B")[0] * length, Pieces(module, "A")[1] * length);
    }

    public override Reference Of(AdapterModule module, ReferenceTarget target)
    {
        var bank = module.Shared("vblora_vector_bank");
        var (a, b, length) = (Mix(module, "A", bank), Mix(module, "B", bank), bank.ColumnCount);
        var (shapeA, shapeB) = (Pieces(module, "A"), Pieces(module, "B"));
        var right = Matrix<double>.Build.Dense((int)shapeA[0], (int)shapeA[1] * length, (r, j) => a[(r * (int)shapeA[1]) + (j / length)][j % length]);
        var left = Matrix<double>.Build.Dense((int)shapeB[0] * length, (int)shapeB[1], (i, r) => b[(i / length * (int)shapeB[1]) + r][i % length]);
        return new AddedReference((rows, _) => left.Pick(rows) * right, target.Factor);
    }

    private static IReadOnlyList<long> Pieces(AdapterModule module, string factor) => module.Shape(module.Has($"vblora_logits_{factor}") ? $"vblora_logits_{factor}" : $"vblora_logits_{factor}_topk_indices");

    // The softmax of the largest logits; or their places and all weights but the last, which is what is left of 1.
    private static Vector<double>[] Mix(AdapterModule module, string factor, Matrix<double> bank)
    {
        var name = $"vblora_logits_{factor}";
        var pieces = (int)(Pieces(module, factor)[0] * Pieces(module, factor)[1]);
        if (module.Has(name))
        {
            var (logits, size) = (module.Values(name), bank.RowCount);
            return [.. Enumerable.Range(0, pieces).Select(piece =>
            {
                var top = Enumerable.Range(0, size).Select(n => (Logit: logits[(piece * size) + n], Place: n)).OrderByDescending(p => p.Logit).Take((int)module.Number("topk")!.Value).ToList();
                var sum = top.Sum(p => Math.Exp(p.Logit - top[0].Logit));
                return Sum(bank, top.Select(p => (p.Place, Math.Exp(p.Logit - top[0].Logit) / sum)));
            })];
        }

        var (places, weights, count) = (module.Values($"{name}_topk_indices"), module.Values($"{name}_topk_weights"), (int)module.Shape($"{name}_topk_indices")[2]);
        return [.. Enumerable.Range(0, pieces).Select(piece =>
        {
            var given = weights.AsSpan(piece * (count - 1), count - 1).ToArray();
            return Sum(bank, places.AsSpan(piece * count, count).ToArray().Select(p => (int)p).Zip([.. given, 1 - given.Sum()]));
        })];
    }

    private static Vector<double> Sum(Matrix<double> bank, IEnumerable<(int Place, double Weight)> parts) =>
        parts.Aggregate(Vector<double>.Build.Dense(bank.ColumnCount), (sum, p) => sum + (p.Weight * bank.Row(p.Place)));
}
