namespace UnslothMerge.Pickle;

/// <summary>A tensor of a state dict: a view of a storage. Offset and strides are in elements; dimensions are not negative.</summary>
internal sealed record PickledTensor(PickledStorage Storage, long Offset, long[] Shape, long[] Strides)
{
    /// <summary>True if the elements are contiguous in row-major order. The stride of a dimension of one element does not matter.</summary>
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

/// <summary>A storage: one entry <c>data/KEY</c> of the archive, and its number of elements.</summary>
internal sealed record PickledStorage(TensorType Type, string Key, long Count);

/// <summary>A dict or OrderedDict while it is filled.</summary>
internal sealed class PickledDict
{
    public List<(object? Key, object? Value)> Items { get; } = [];
}
