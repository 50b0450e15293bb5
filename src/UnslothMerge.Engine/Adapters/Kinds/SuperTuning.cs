using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>Super-Tuning: W.flat[i] + v at the places [n] that the file lists; with <c>r</c> (Supra) also + BA·lora_alpha/r. Source: PEFT
/// 0.21, <c>supertuning</c>.</summary>
internal sealed class SuperTuning() : MatrixKind("Super-Tuning", "SUPERTUNING", ["supertuning_indices", "supertuning_values", A, B])
{
    private const string A = "supertuning_lora_A.weight";
    private const string B = "supertuning_lora_B.weight";

    protected override MatrixDelta Build(AdaptedModule module)
    {
        var (indices, values) = (module.Indices("supertuning_indices", 1), module.Numbers("supertuning_values", 1));
        AdaptedModule.Require(
            indices.Shape[0] == values.Shape[0],
            $"supertuning_indices {indices.Shape.Text()} and supertuning_values {values.Shape.Text()} do not fit together");
        var (outputs, inputs) = module.Features(transposed: false);
        var sparse = new MatrixDelta([indices, values], from =>
        {
            var (places, changes) = (from.ReadIndices(indices, (long)outputs * inputs), from.Read(values));
            return new SparseMatrix(outputs, places.Length, i => (places[i] / inputs, places[i] % inputs, changes[i]));
        });
        if (!module.Has(A) && !module.Has(B))
        {
            AdaptedModule.Require(module.Config.Rank is null, $"r is {module.Config.Rank}, but it has neither {A} nor {B}");
            return sparse;
        }

        var (a, b) = (module.Numbers(A, 2), module.Numbers(B, 2));
        var rank = module.RequireRank(a.Shape[0]);
        AdaptedModule.Require(b.Shape[1] == rank, $"{A} {a.Shape.Text()} and {B} {b.Shape.Text()} are not of one rank");
        module.RequireFit(b.Shape[0], a.Shape[1]);
        var scaling = module.Config.ValueOf(module.Name, "lora_alpha") / rank;
        return sparse with
        {
            Inputs = [indices, values, a, b],
            Open = from => new CombinedMatrix(
                sparse.Open(from), new ProductMatrix(from.Read(b), Scaled(from.Read(a), scaling), rank, inputs), isProduct: false),
            Rank = rank,
        };
    }

    private static double[] Scaled(double[] values, double factor) => Array.ConvertAll(values, v => v * factor);
}
