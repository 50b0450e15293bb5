using UnslothMerge.Adapters.Terms;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>
/// VeRA: W + diag(b)·B[:out]·diag(d)·A[:, :in], where all modules share A [r, ≥ in] and B [≥ out, r]. Source: arXiv 2310.11454; PEFT 0.21,
/// <c>vera</c>.
/// </summary>
public sealed class Vera : MatrixKind
{
    /// <inheritdoc/>
    public override string Name => "VeRA";

    /// <inheritdoc/>
    public override string PeftType => "VERA";

    /// <inheritdoc/>
    public override IReadOnlyList<string> Parts { get; } = ["vera_lambda_b", "vera_lambda_d"];

    /// <inheritdoc/>
    public override IReadOnlyList<string> SharedParts { get; } = ["vera_A", "vera_B"];

    /// <inheritdoc/>
    protected override MatrixDelta Build(ModuleParts parts) => SharedProjections.Build(parts, "vera", probabilistic: false);
}

/// <summary>
/// PVeRA: as VeRA, but A and d have twice the rows: means, then log-variances. Without sampling only the means count. Source: PEFT 0.21,
/// <c>pvera</c>.
/// </summary>
public sealed class Pvera : MatrixKind
{
    /// <inheritdoc/>
    public override string Name => "PVeRA";

    /// <inheritdoc/>
    public override string PeftType => "PVERA";

    /// <inheritdoc/>
    public override IReadOnlyList<string> Parts { get; } = ["pvera_lambda_b", "pvera_lambda_d"];

    /// <inheritdoc/>
    public override IReadOnlyList<string> SharedParts { get; } = ["pvera_A", "pvera_B"];

    /// <inheritdoc/>
    protected override MatrixDelta Build(ModuleParts parts) => SharedProjections.Build(parts, "pvera", probabilistic: true);
}

/// <summary>The delta of VeRA and its probabilistic form.</summary>
internal static class SharedProjections
{
    public static MatrixDelta Build(ModuleParts parts, string prefix, bool probabilistic)
    {
        var (a, b) = (parts.Shared(prefix + "_A", 2), parts.Shared(prefix + "_B", 2));
        var (outer, inner) = (parts.Numbers(prefix + "_lambda_b", 1), parts.Numbers(prefix + "_lambda_d", 1));
        var (rank, outputs) = ((int)b.Shape[1], (int)outer.Shape[0]);
        var rows = probabilistic ? 2 * rank : rank;
        var transposed = parts.Orient(outputs, null);
        var (_, inputs) = parts.Features(transposed);
        ModuleParts.Require(
            a.Shape[0] == rows && inner.Shape[0] == rows && b.Shape[0] >= outputs && a.Shape[1] >= inputs,
            $"{prefix}_A {a.Shape.Text()}, {prefix}_B {b.Shape.Text()}, {prefix}_lambda_d {inner.Shape.Text()} and the weight {parts.Weight.Name} {parts.Weight.Shape.Text()} do not fit together");
        return new MatrixDelta([outer, inner, a, b], from => new ProductMatrix(
            Products.ScaleRows(from.ReadCorner<double>(b, outputs, rank), from.Read(outer)),
            Products.ScaleRows(from.ReadCorner<double>(a, rank, inputs), from.Read(inner).AsSpan(0, rank)),
            rank,
            inputs))
        { IsTransposed = transposed, Rank = rank, HeldBytes = (long)rank * (outputs + inputs) * sizeof(double) };
    }
}
