namespace UnslothMerge.Pickle;

/// <summary>A tensor of a state dict: a view of a storage.</summary>
/// <param name="Offset">The index of its first element in the storage.</param>
/// <param name="Shape">The dimensions, none negative.</param>
/// <param name="Strides">The distance of neighbours along each dimension, in elements.</param>
internal sealed record PickledTensor(PickledStorage Storage, long Offset, long[] Shape, long[] Strides)
{
    /// <summary>True if the elements lie one after the other in row-major order. The stride of a dimension of one element does not
    /// matter.</summary>
    public bool IsContiguous()
    {
        var expected = 1L;
        for (var i = Shape.Length - 1; i >= 0 && !Shape.Contains(0); i--)
        {
            if (Shape[i] != 1 && Strides[i] != expected)
            {
                return false;
            }

            expected *= Shape[i];
        }

        return true;
    }
}

/// <summary>A storage: one entry <c>data/KEY</c> of the archive.</summary>
/// <param name="Key">Its name in the archive.</param>
/// <param name="Count">Its elements.</param>
internal sealed record PickledStorage(TensorType Type, string Key, long Count);

/// <summary>A dict or OrderedDict while it is filled.</summary>
internal sealed class PickledDict
{
    public List<(object? Key, object? Value)> Items { get; } = [];
}
