namespace UnslothMerge.Adapters.Terms;

/// <summary>A block-diagonal matrix of equal blocks [size, size], row-major, in double; one block alone is repeated.</summary>
internal sealed class BlockDiagonal(IReadOnlyList<double[]> blocks, int size)
{
    /// <summary>product = row · blocks.</summary>
    public void Multiply(ReadOnlySpan<double> row, Span<double> product)
    {
        product.Clear();
        for (var first = 0; first < row.Length; first += size)
        {
            var block = blocks[blocks.Count == 1 ? 0 : first / size];
            var sums = product.Slice(first, size);
            for (var k = 0; k < size; k++)
            {
                TensorPrimitives.FusedMultiplyAdd(block.AsSpan(k * size, size), row[first + k], sums, sums);
            }
        }
    }
}
