using UnslothMerge.Safetensors;

namespace UnslothMerge.Pickle;

/// <summary>A tensor of a state dict: a view of a storage.</summary>
/// <param name="Storage">The storage.</param>
/// <param name="Offset">Its first element in the storage.</param>
/// <param name="Shape">The dimensions, none negative.</param>
/// <param name="Strides">The distance between neighbours along each dimension, in elements.</param>
internal sealed record PickledTensor(PickledStorage Storage, long Offset, long[] Shape, long[] Strides)
{
    /// <summary>True if the elements lie one after the other in row-major order. The stride of a dimension of one element says nothing.</summary>
    public bool IsContiguous
    {
        get
        {
            if (Shape.Contains(0))
            {
                return true;
            }

            var expected = 1L;
            for (var i = Shape.Length - 1; i >= 0; i--)
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
}

/// <summary>A storage: one entry <c>data/KEY</c> of the archive.</summary>
/// <param name="Type">The dtype of its elements.</param>
/// <param name="Key">Its name in the archive.</param>
/// <param name="Count">The number of its elements.</param>
internal sealed record PickledStorage(TensorType Type, string Key, long Count);

/// <summary>A dict or OrderedDict while it is filled.</summary>
internal sealed class PickledDict
{
    /// <summary>The items in the order in which they were set.</summary>
    public List<(object? Key, object? Value)> Items { get; } = [];
}
