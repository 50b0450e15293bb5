using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>UniLoRA with saved indices: W + BA, where A [r, in] and B [out, r] are entries of one vector θ that all modules share, times
/// their scales. Source: arXiv 2506.00799; PEFT 0.21, <c>unilora</c>.</summary>
internal sealed class UniLora() : MatrixKind(
    "UniLoRA", "UNILORA", ["unilora_indices_A", "unilora_indices_B", "unilora_scales_A", "unilora_scales_B"], [Theta])
{
    private const string Theta = "unilora_theta_d";

    protected override MatrixDelta Build(AdaptedModule module)
    {
        var theta = module.SharedNumbers(Theta, 1);
        var (a, b) = (module.Indices("unilora_indices_A", 2), module.Indices("unilora_indices_B", 2));
        var (scalesA, scalesB) = (module.Numbers("unilora_scales_A", 2), module.Numbers("unilora_scales_B", 2));
        AdaptedModule.Require(
            scalesA.Shape.SequenceEqual(a.Shape) && scalesB.Shape.SequenceEqual(b.Shape) && b.Shape[1] == a.Shape[0],
            $"unilora_indices_A {a.Shape.Text()}, unilora_indices_B {b.Shape.Text()} and the scales {scalesA.Shape.Text()}, "
            + $"{scalesB.Shape.Text()} do not fit together");
        var (rank, columns) = ((int)a.Shape[0], (int)a.Shape[1]);
        return new MatrixDelta([theta, a, b, scalesA, scalesB], from =>
        {
            var values = from.Read(theta);
            return new ProductMatrix(Take(from, values, b, scalesB), Take(from, values, a, scalesA), rank, columns);
        })
        { IsTransposed = module.IsTransposed(b.Shape[0], columns), Rank = rank };
    }

    private static double[] Take(DeltaContext from, double[] values, StoredTensor indices, StoredTensor scales)
    {
        var taken = from.Read(scales);
        var places = from.ReadIndices(indices, values.Length);
        for (var i = 0; i < taken.Length; i++)
        {
            taken[i] *= values[places[i]];
        }

        return taken;
    }
}
