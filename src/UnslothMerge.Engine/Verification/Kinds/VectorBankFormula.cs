using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>VB-LoRA: W + BA; A [r, pieces] and B [pieces, r] are made of weighted sums of a bank's vectors (arXiv 2405.15179; PEFT
/// 0.21).</summary>
internal static class VectorBankFormula
{
    public static (long? Outputs, long? Inputs) Size(AdapterModule module)
    {
        var length = module.Shared("vblora_vector_bank").ColumnCount;
        return (Pieces(module, "B")[0] * length, Pieces(module, "A")[1] * length);
    }

    public static Reference VbLora(AdapterModule module, ReferenceTarget target)
    {
        var bank = module.Shared("vblora_vector_bank");
        var (a, b, length) = (Sums(module, "A", bank), Sums(module, "B", bank), bank.ColumnCount);
        var (pieces, rank) = ((int)Pieces(module, "A")[1], (int)Pieces(module, "B")[1]);
        return target.AddProduct(
            Matrix<double>.Build.Dense(target.Outputs, rank, (i, r) => b[(i / length * rank) + r][i % length]),
            Matrix<double>.Build.Dense(rank, target.Inputs, (r, j) => a[(r * pieces) + (j / length)][j % length]));
    }

    private static IReadOnlyList<long> Pieces(AdapterModule module, string factor) =>
        module.Shape(module.Has($"vblora_logits_{factor}") ? $"vblora_logits_{factor}" : $"vblora_logits_{factor}_topk_indices");

    // The softmax of the largest logits; or their indices and all weights but the last, which is the rest to 1.
    private static Vector<double>[] Sums(AdapterModule module, string factor, Matrix<double> bank)
    {
        var name = $"vblora_logits_{factor}";
        if (module.Has(name))
        {
            return [.. module.Values(name).Chunk(bank.RowCount).Select(logits =>
            {
                var top = logits.Index().OrderByDescending(l => l.Item).Take((int)module.Number("topk")!.Value).ToList();
                var sum = top.Sum(l => Math.Exp(l.Item - top[0].Item));
                return Sum(top.Select(l => (l.Index, Math.Exp(l.Item - top[0].Item) / sum)));
            })];
        }

        var (all, count) = (module.Values($"{name}_topk_weights"), (int)module.Shape($"{name}_topk_indices")[2]);
        return [.. module.Values($"{name}_topk_indices").Chunk(count).Select((indices, piece) =>
        {
            var weights = all.AsSpan(piece * (count - 1), count - 1).ToArray();
            return Sum(indices.Select(i => (int)i).Zip([.. weights, 1 - weights.Sum()]));
        })];

        Vector<double> Sum(IEnumerable<(int Index, double Weight)> parts) =>
            parts.Aggregate(Vector<double>.Build.Dense(bank.ColumnCount), (sum, p) => sum + (p.Weight * bank.Row(p.Index)));
    }
}
