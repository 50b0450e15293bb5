using UnslothMerge.Adapters.Numerics;
using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>TinyLoRA: W + B(Σ vᵢ·Pᵢ)A with A [r, in], P [u, r, r], B [out, r] and one or several v [u] that modules share. Source: PEFT
/// 0.21, <c>tinylora</c>.</summary>
/// <remarks>Of several v, a module takes number min(i / (modules / groups), groups − 1), where i counts the modules as the model defines
/// them. That order is not in the file; but P was drawn with the seed <c>projection_seed</c> + i, so its first values show i.</remarks>
internal sealed class TinyLora() : MatrixKind("TinyLoRA", "TINYLORA", ["tinylora_A", "tinylora_B", Projection], [Vectors])
{
    private const string Vectors = "tinylora_v";
    private const string Projection = "tinylora_P";

    protected override MatrixDelta Build(AdaptedModule module)
    {
        var (a, b, p) = (module.Numbers("tinylora_A", 2), module.Numbers("tinylora_B", 2), module.Numbers(Projection, 3));
        var vectors = module.SharedList(Vectors, 1);
        AdaptedModule.Require(vectors.Count > 0, $"the file has no base_model.{Vectors}, which all modules share");
        var v = vectors.Count == 1 ? vectors[0] : vectors[Group(module, p, vectors.Count)];
        var (count, rank, columns) = ((int)v.Shape[0], (int)a.Shape[0], (int)a.Shape[1]);
        AdaptedModule.Require(
            b.Shape[1] == rank && p.Shape.SequenceEqual([count, rank, rank]),
            $"tinylora_A {a.Shape.Text()}, tinylora_B {b.Shape.Text()}, {Projection} {p.Shape.Text()} and '{v.Name}' {v.Shape.Text()} do "
            + "not fit together");
        return new MatrixDelta([a, b, p, v], from =>
        {
            var inner = Matrices.Multiply(from.Read(v), from.Read(p), 1, count, rank * rank);
            return new ProductMatrix(Matrices.Multiply(from.Read(b), inner, (int)b.Shape[0], rank, rank), from.Read(a), rank, columns);
        })
        { IsTransposed = module.IsTransposed(b.Shape[0], columns), Rank = rank };
    }

    private static int Group(AdaptedModule module, StoredTensor p, int groups)
    {
        var seed = (long)module.Config.ValueOf(module.Name, "projection_seed");
        var first = FirstValues(p);
        var deviation = 1 / Math.Sqrt(p.Shape[1]);
        for (var i = 0; i < module.Modules; i++)
        {
            if (IsDrawn(seed + i, inDouble: false) || IsDrawn(seed + i, inDouble: true))
            {
                return Math.Min(i / Math.Max(1, module.Modules / groups), groups - 1);
            }
        }

        throw new MisfitException(
            $"there are {groups} {Vectors}, and its {Projection} was not drawn with projection_seed {seed}, so it cannot be told which "
            + "one it uses");

        // P may have been rounded to the base's dtype.
        bool IsDrawn(long drawnWith, bool inDouble) =>
            RandomNormals.First(drawnWith, p.Shape.Count(), inDouble).Zip(first)
                .All(z => Math.Abs((z.First * deviation) - z.Second) <= deviation * 0.02);
    }

    private static double[] FirstValues(StoredTensor p)
    {
        using var files = new InputFiles();
        var values = new float[Math.Min(16, p.Shape.Count())];
        AdapterValues.Read(files, p, 0, values, new byte[values.Length * p.Type.Bits() / 8]);
        return Array.ConvertAll(values, x => (double)x);
    }
}
