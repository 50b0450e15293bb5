using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>VB-LoRA: W + BA, whose pieces of v values are mixtures of the rows of one bank [n, v] that all modules share: softmax over the
/// k largest logits, A from logits [r, in/v, n], B from [out/v, r, n]. The file may hold the k places and the first k − 1 weights instead
/// of the logits. Source: arXiv 2405.15179; PEFT 0.21, <c>vblora</c>.</summary>
internal sealed class VbLora() : MatrixKind(
    "VB-LoRA", "VBLORA",
    [Logits + "A", Logits + "A" + Places, Logits + "A" + Weights, Logits + "B", Logits + "B" + Places, Logits + "B" + Weights], [Bank])
{
    private const string Bank = "vblora_vector_bank";
    private const string Logits = "vblora_logits_";
    private const string Places = "_topk_indices";
    private const string Weights = "_topk_weights";

    protected override MatrixDelta Build(AdaptedModule module)
    {
        var bank = module.SharedNumbers(Bank, 2);
        var (a, b) = (Mixture.Of(module, "A", bank), Mixture.Of(module, "B", bank));
        var (rank, length) = (a.Rows, (int)bank.Shape[1]);
        AdaptedModule.Require(
            b.Columns == rank, $"its {Logits}A have {rank} rows and its {Logits}B {b.Columns} columns of pieces; both should be the rank");
        var (outputs, inputs) = (b.Rows * length, a.Columns * length);
        return new MatrixDelta([bank, .. a.Inputs, .. b.Inputs], from =>
        {
            var vectors = from.Read(bank);

            // B: [out/v, r, v] → [out/v, v, r].
            var pieces = b.Mix(from, vectors, length);
            var left = Enumerable.Range(0, b.Rows)
                .SelectMany(i => Matrices.Transpose(pieces[(i * rank * length)..((i + 1) * rank * length)], rank, length)).ToArray();
            return new ProductMatrix(left, a.Mix(from, vectors, length), rank, inputs);
        })
        { IsTransposed = module.IsTransposed(outputs, inputs), Rank = rank };
    }

    private sealed record Mixture(StoredTensor? Scores, StoredTensor? Indices, StoredTensor? Factors, int Count)
    {
        public IReadOnlyList<StoredTensor> Inputs => Scores is null ? [Indices!, Factors!] : [Scores];

        public int Rows => (int)(Scores ?? Indices)!.Shape[0];

        public int Columns => (int)(Scores ?? Indices)!.Shape[1];

        public static Mixture Of(AdaptedModule module, string factor, StoredTensor bank)
        {
            var name = Logits + factor;
            if (module.OptionalNumbers(name, 3) is { } scores)
            {
                var count = (int)module.Config.ValueOf(module.Name, "topk");
                AdaptedModule.Require(
                    !module.Has(name + Places) && !module.Has(name + Weights), $"it has {name} both whole and as places and weights");
                AdaptedModule.Require(
                    scores.Shape[2] == bank.Shape[0] && count > 0 && count <= scores.Shape[2],
                    $"{name} {scores.Shape.Text()}, topk {count} and '{bank.Name}' {bank.Shape.Text()} do not fit together");
                return new Mixture(scores, null, null, count);
            }

            var (indices, weights) = (module.Indices(name + Places, 3), module.Numbers(name + Weights, 3));
            AdaptedModule.Require(
                weights.Shape[0] == indices.Shape[0] && weights.Shape[1] == indices.Shape[1] && weights.Shape[2] == indices.Shape[2] - 1,
                $"{name}{Places} {indices.Shape.Text()} and {name}{Weights} {weights.Shape.Text()} do not fit together");
            return new Mixture(null, indices, weights, (int)indices.Shape[2]);
        }

        // [rows, columns, v]
        public double[] Mix(DeltaContext from, double[] bank, int length)
        {
            var size = bank.Length / length;
            var scores = Scores is null ? null : from.Read(Scores, mayBeInfinite: true);
            var places = Indices is null ? null : from.ReadIndices(Indices, size);
            var factors = Factors is null ? null : from.Read(Factors);
            var mixed = new double[Rows * Columns * length];
            for (var piece = 0; piece < Rows * Columns; piece++)
            {
                var chosen = scores is null ? Stored(places!, factors!, piece) : Largest(scores.AsSpan(piece * size, size));
                foreach (var (place, weight) in chosen)
                {
                    for (var i = 0; i < length; i++)
                    {
                        mixed[(piece * length) + i] += weight * bank[(place * length) + i];
                    }
                }
            }

            return Array.TrueForAll(mixed, double.IsFinite)
                ? mixed
                : throw new MergeException(
                    MergeError.InvalidAdapter, $"The adapter tensor '{Inputs[0].Name}' holds NaN or Inf: it cannot be merged.",
                    Inputs[0].File.Path);
        }

        // The last weight is what is left of 1.
        private (int Place, double Weight)[] Stored(int[] places, double[] factors, int piece)
        {
            var given = factors.AsSpan(piece * (Count - 1), Count - 1).ToArray();
            return [.. places.AsSpan(piece * Count, Count).ToArray().Zip([.. given, 1 - given.Sum()])];
        }

        // Minus infinity is a logit that was never stored, and has no weight.
        private (int Place, double Weight)[] Largest(ReadOnlySpan<double> scores)
        {
            var sorted = new (double Score, int Place)[scores.Length];
            for (var i = 0; i < scores.Length; i++)
            {
                sorted[i] = (-scores[i], i);
            }

            Array.Sort(sorted);
            var weights = sorted.Take(Count).Select(s => Math.Exp(sorted[0].Score - s.Score)).ToArray();
            var sum = weights.Sum();
            return [.. sorted.Take(Count).Zip(weights, (s, w) => (s.Place, w / sum))];
        }
    }
}
