namespace UnslothMerge.Adapters.Terms;

/// <summary>A matrix whose values [rows, columns] are at hand, row-major.</summary>
internal sealed class StoredMatrix(double[] stored, int columns) : DeltaMatrix
{
    public override void Fill(Block block, Span<double> values)
    {
        for (var i = 0; i < block.Rows; i++)
        {
            stored.AsSpan(((block.Row + i) * columns) + block.Column, block.Columns).CopyTo(values[(i * block.Columns)..]);
        }
    }
}
