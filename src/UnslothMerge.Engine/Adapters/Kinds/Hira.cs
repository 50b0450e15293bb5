using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>HiRA on Linear layers and convolutions: W + W⊙(BA) with A [r, in, k…] and B [out, r, 1…], without a scale. Source: "HiRA" (ICLR
/// 2025); PEFT 0.21, <c>hira</c>.</summary>
internal sealed class Hira() : MatrixKind("HiRA", "HIRA", ["hira_A", "hira_B"])
{
    protected override MatrixDelta Build(AdaptedModule module)
    {
        var (a, b) = (module.Numbers("hira_A"), module.Numbers("hira_B"));
        AdaptedModule.Require(
            a.Shape.Count >= 2 && b.Shape.Count >= 2 && b.Shape.Count() == b.Shape[0] * a.Shape[0],
            $"hira_A {a.Shape.Text()} and hira_B {b.Shape.Text()} are not of one rank");
        var (rank, columns) = (module.RequireRank(a.Shape[0]), (int)a.Shape.Skip(1).Aggregate(1L, (x, y) => x * y));
        return new MatrixDelta([a, b], from => new ProductMatrix(from.Read(b), from.Read(a), rank, columns))
        {
            IsTransposed = module.IsTransposed(b.Shape[0], columns),
            IsRelative = true,
            Rank = rank,
        };
    }
}

/// <summary>HiRA on an Embedding: W + W⊙(BA)ᵀ with A [r, V] and B [D, r].</summary>
internal sealed class HiraEmbedding() : MatrixKind("HiRA", "HIRA", ["hira_embedding_A", "hira_embedding_B"])
{
    protected override MatrixDelta Build(AdaptedModule module)
    {
        var (a, b) = (module.Numbers("hira_embedding_A", 2), module.Numbers("hira_embedding_B", 2));
        AdaptedModule.Require(
            b.Shape[1] == a.Shape[0], $"hira_embedding_A {a.Shape.Text()} and hira_embedding_B {b.Shape.Text()} are not of one rank");
        module.RequireFit(a.Shape[1], b.Shape[0]);
        var (rank, columns) = (module.RequireRank(a.Shape[0]), (int)a.Shape[1]);
        return new MatrixDelta(
            [a, b],
            from => new ProductMatrix(from.Read(b), from.Read(a), rank, columns)) { IsTransposed = true, IsRelative = true, Rank = rank };
    }
}
