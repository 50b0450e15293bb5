using UnslothMerge.Adapters.Terms;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>
/// Super-Tuning: W.flat[i] + v at the places [n] that the file lists; with <c>r</c> (Supra) also + BA·lora_alpha/r. Source: PEFT 0.21,
/// <c>supertuning</c>.
/// </summary>
public sealed class SuperTuning : MatrixKind
{
    private const string A = "supertuning_lora_A.weight";
    private const string B = "supertuning_lora_B.weight";

    /// <inheritdoc/>
    public override string Name => "Super-Tuning";

    /// <inheritdoc/>
    public override string PeftType => "SUPERTUNING";

    /// <inheritdoc/>
    public override IReadOnlyList<string> Parts { get; } = ["supertuning_indices", "supertuning_values", A, B];

    /// <inheritdoc/>
    protected override MatrixDelta Build(ModuleParts parts)
    {
        var (indices, values) = (parts.Indices("supertuning_indices", 1), parts.Numbers("supertuning_values", 1));
        ModuleParts.Require(indices.Shape[0] == values.Shape[0], $"supertuning_indices {indices.Shape.Text()} and supertuning_values {values.Shape.Text()} do not fit together");
        var (outputs, inputs) = parts.Features(transposed: false);
        var sparse = new MatrixDelta([indices, values], from =>
        {
            var (places, changes) = (from.ReadIndices(indices, (long)outputs * inputs), from.Read(values));
            return new SparseMatrix(outputs, places.Length, i => (places[i] / inputs, places[i] % inputs, changes[i]));
        });
        if (!parts.Has(A) && !parts.Has(B))
        {
            ModuleParts.Require(parts.Config.Rank is null, $"r is {parts.Config.Rank}, but it has neither {A} nor {B}");
            return sparse;
        }

        var (a, b) = (parts.Numbers(A, 2), parts.Numbers(B, 2));
        var rank = parts.CheckRank(a.Shape[0]);
        ModuleParts.Require(b.Shape[1] == rank, $"{A} {a.Shape.Text()} and {B} {b.Shape.Text()} are not of one rank");
        parts.Fit(b.Shape[0], a.Shape[1]);
        var scaling = parts.Config.ValueOf(parts.Module, "lora_alpha") / rank;
        return sparse with
        {
            Inputs = [indices, values, a, b],
            Open = from => new SumMatrix(sparse.Open(from), new ProductMatrix(from.Read(b), Scaled(from.Read(a), scaling), rank, inputs)),
            Rank = rank,
        };
    }

    private static double[] Scaled(double[] values, double factor) => Array.ConvertAll(values, v => v * factor);
}
