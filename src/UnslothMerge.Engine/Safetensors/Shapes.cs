namespace UnslothMerge.Safetensors;

/// <summary>Shapes of tensors: arrays of dimensions.</summary>
internal static class Shapes
{
    /// <summary>The number of elements; 1 for a scalar.</summary>
    public static long Count(this IReadOnlyList<long> shape)
    {
        var count = 1L;
        foreach (var dimension in shape)
        {
            count = checked(count * dimension);
        }

        return count;
    }

    /// <summary>The shape as errors show it: <c>[24, 20]</c>.</summary>
    public static string Text(this IReadOnlyList<long> shape) => $"[{string.Join(", ", shape)}]";
}
