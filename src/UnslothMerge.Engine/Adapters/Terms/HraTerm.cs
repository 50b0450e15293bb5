using UnslothMerge.Simd;

namespace UnslothMerge.Adapters.Terms;

/// <summary>W' = W·H₀H₁…H_{r−1}: Householder reflections H = I − 2uuᵀ with unit vectors u, stored as columns [inputs, r], not yet of unit
/// length, and made orthogonal first (Gram-Schmidt) where the config says so. Source: HRA (arXiv 2405.17484); PEFT 0.21, <c>HRALinear</c>,
/// <c>HRAConv2d</c>.</summary>
internal sealed class HraTerm(string kind, StoredTensor vectors, bool orthogonal, LayerLayout layout) : RowMapTerm(kind, [vectors], layout)
{
    // What is left of a vector that depends on the others is the rounding noise of fp32.
    private const double Noise = 1e-6;

    public override int? Rank => (int)vectors.Shape[1];

    protected override long MapBytes => vectors.Shape.Count() * sizeof(double);

    protected override RowMap Load(InputFiles files, Action<RowVisitor> visitRows)
    {
        var (inputs, rank) = ((int)vectors.Shape[0], (int)vectors.Shape[1]);
        double[][] units = [.. Matrices.Transpose(AdapterValues.Read(files, vectors), inputs, rank).Chunk(inputs)];
        for (var k = 0; k < rank; k++)
        {
            var unit = units[k];
            var length = FixedOrder.Norm(unit);
            for (var j = 0; orthogonal && j < k; j++)
            {
                AddMultiple(unit, -FixedOrder.Dot(units[j], unit), units[j]);
            }

            var left = FixedOrder.Norm(unit);
            if (left <= length * Noise)
            {
                throw new MergeException(
                    MergeError.InvalidAdapter,
                    $"The adapter tensor '{vectors.Name}' has a column ({k}) that "
                    + $"{(length == 0 ? "is zero" : "depends on those before it")}: its reflection is undefined.",
                    vectors.File.Path);
            }

            units[k] = Array.ConvertAll(unit, u => u / left);
        }

        return new Map(units);
    }

    private static void AddMultiple(Span<double> values, double factor, ReadOnlySpan<double> vector) =>
        System.Numerics.Tensors.TensorPrimitives.FusedMultiplyAdd(vector, factor, values, values);

    private sealed class Map(double[][] units) : RowMap
    {
        public override void Apply(long output, Span<double> row, Span<double> scratch)
        {
            foreach (var unit in units)
            {
                AddMultiple(row, -2 * FixedOrder.Dot(row, unit), unit);
            }
        }
    }
}
