using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>SHiRA: W[i, j] + w at the places [2, n] that the file lists. Source: arXiv 2406.13175; PEFT 0.21, <c>shira</c>.</summary>
internal sealed class Shira() : MatrixKind("SHiRA", "SHIRA", ["shira_indices", "shira_weight"])
{
    protected override MatrixDelta Build(AdaptedModule module)
    {
        var (indices, weight) = (module.Indices("shira_indices", 2), module.Numbers("shira_weight", 1));
        var count = (int)weight.Shape[0];
        AdaptedModule.Require(
            indices.Shape.SequenceEqual([2, count]),
            $"shira_indices {indices.Shape.Text()} and shira_weight {weight.Shape.Text()} do not fit together");
        var (outputs, inputs) = module.Features(transposed: false);
        return new MatrixDelta([indices, weight], from =>
        {
            var (places, values) = (from.ReadIndices(indices, outputs, inputs), from.Read(weight));
            return new SparseMatrix(outputs, count, i => (places[i], places[count + i], values[i]));
        });
    }
}
