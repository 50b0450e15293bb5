namespace UnslothMerge.Adapters.Terms;

/// <summary>The sum of two matrices, or their element-wise product.</summary>
internal sealed class CombinedMatrix(DeltaMatrix first, DeltaMatrix second, bool isProduct) : DeltaMatrix
{
    public override void Fill(Block block, Span<double> values)
    {
        Span<double> other = stackalloc double[Block.MaxValues];
        other = other[..block.Count];
        first.Fill(block, values);
        second.Fill(block, other);
        if (isProduct)
        {
            TensorPrimitives.Multiply(values, other, values);
        }
        else
        {
            TensorPrimitives.Add(values, other, values);
        }
    }
}
