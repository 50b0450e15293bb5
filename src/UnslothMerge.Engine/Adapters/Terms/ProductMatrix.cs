namespace UnslothMerge.Adapters.Terms;

/// <summary>left · right, with left [rows, rank] and right [rank, columns], row-major. Each value is summed over the rank in double, in
/// order.</summary>
internal sealed class ProductMatrix(double[] left, double[] right, int rank, int columns) : DeltaMatrix
{
    public override void Fill(Block block, Span<double> values)
    {
        for (var i = 0; i < block.Rows; i++)
        {
            var row = values.Slice(i * block.Columns, block.Columns);
            row.Clear();
            var factors = left.AsSpan((block.Row + i) * rank, rank);
            for (var k = 0; k < rank; k++)
            {
                TensorPrimitives.FusedMultiplyAdd(right.AsSpan((k * columns) + block.Column, block.Columns), factors[k], row, row);
            }
        }
    }
}
