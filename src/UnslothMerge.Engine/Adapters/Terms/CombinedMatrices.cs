namespace UnslothMerge.Adapters.Terms;

/// <summary>The element-wise product of two matrices.</summary>
internal sealed class HadamardMatrix(DeltaMatrix first, DeltaMatrix second) : DeltaMatrix
{
    public override void Fill(Block block, Span<double> values)
    {
        Span<double> other = stackalloc double[Block.MaxValues];
        other = other[..block.Count];
        first.Fill(block, values);
        second.Fill(block, other);
        TensorPrimitives.Multiply(values, other, values);
    }
}

/// <summary>The sum of two matrices.</summary>
internal sealed class SumMatrix(DeltaMatrix first, DeltaMatrix second) : DeltaMatrix
{
    public override void Fill(Block block, Span<double> values)
    {
        Span<double> other = stackalloc double[Block.MaxValues];
        other = other[..block.Count];
        first.Fill(block, values);
        second.Fill(block, other);
        TensorPrimitives.Add(values, other, values);
    }
}
