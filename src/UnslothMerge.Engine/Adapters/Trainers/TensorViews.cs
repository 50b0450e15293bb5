namespace UnslothMerge.Adapters.Trainers;

/// <summary>Stored tensors seen in another form: nothing is read or copied.</summary>
internal static class TensorViews
{
    /// <summary>[a, b] as [b, a].</summary>
    public static StoredTensor Transposed(this StoredTensor tensor) => tensor with
    {
        Shape = [tensor.Shape[1], tensor.Shape[0]],
        Strides = [(tensor.Shape[1], 1), (tensor.Shape[0], tensor.Shape[1])],
    };

    /// <summary>One of the tensors that are stacked along the first dimension.</summary>
    public static StoredTensor Slice(this StoredTensor tensor, long index) => tensor with
    {
        Shape = [.. tensor.Shape.Skip(1)],
        Offset = tensor.Offset + (index * tensor.Length / tensor.Shape[0]),
        Length = tensor.Length / tensor.Shape[0],
    };

    /// <summary>Rows in another order, which is that of these dimensions with steps in rows.</summary>
    public static StoredTensor Reordered(this StoredTensor tensor, params IReadOnlyList<(long Count, long Step)> rows)
    {
        var width = tensor.Shape.Skip(1).Aggregate(1L, (a, b) => a * b);
        return tensor with { Strides = [.. rows.Select(d => (d.Count, d.Step * width)), (width, 1)] };
    }
}
