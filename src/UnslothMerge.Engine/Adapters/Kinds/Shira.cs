using UnslothMerge.Adapters.Terms;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>SHiRA: W[i, j] + w at the places [2, n] that the file lists. Source: arXiv 2406.13175; PEFT 0.21, <c>shira</c>.</summary>
public sealed class Shira : MatrixKind
{
    /// <inheritdoc/>
    public override string Name => "SHiRA";

    /// <inheritdoc/>
    public override string PeftType => "SHIRA";

    /// <inheritdoc/>
    public override IReadOnlyList<string> Parts { get; } = ["shira_indices", "shira_weight"];

    /// <inheritdoc/>
    protected override MatrixDelta Build(ModuleParts parts)
    {
        var (indices, weight) = (parts.Indices("shira_indices", 2), parts.Numbers("shira_weight", 1));
        var count = (int)weight.Shape[0];
        ModuleParts.Require(indices.Shape.SequenceEqual([2, count]), $"shira_indices {indices.Shape.Text()} and shira_weight {weight.Shape.Text()} do not fit together");
        var (outputs, inputs) = parts.Features(transposed: false);
        return new MatrixDelta([indices, weight], from =>
        {
            var (places, values) = (from.ReadIndices(indices, outputs, inputs), from.Read(weight));
            return new SparseMatrix(outputs, count, i => (places[i], places[count + i], values[i]));
        });
    }
}
