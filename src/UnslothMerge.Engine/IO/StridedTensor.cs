using UnslothMerge.Files;

namespace UnslothMerge.IO;

/// <summary>Reads tensors whose elements do not lie side by side: transposed, every second row, some columns.</summary>
internal static class StridedTensor
{
    /// <summary>Reads a part of such a tensor, in strips along the dimension of the smallest step.</summary>
    /// <returns>False if the file ends before.</returns>
    public static bool Read(IDisk disk, SafeFileHandle file, StoredTensor tensor, long start, Span<byte> destination)
    {
        var (dimensions, width) = (tensor.Strides!, tensor.Type.Bits() / 8);
        var (first, end) = (start / width, (start + destination.Length) / width);
        var axis = Enumerable.Range(0, dimensions.Count).MinBy(d => dimensions[d].Count > 1 ? dimensions[d].Step : long.MaxValue);
        var (count, step) = dimensions[axis];
        var inner = dimensions.Skip(axis + 1).Aggregate(1L, (product, d) => product * d.Count);
        for (var outer = first / (count * inner); outer * count * inner < end; outer++)
        {
            for (var i = 0L; i < inner; i++)
            {
                // Of the elements head, head + inner, head + 2 · inner … those that lie within the part.
                var head = (outer * count * inner) + i;
                var from = Math.Max(0, (first - head + inner - 1) / inner);
                var to = Math.Min(count, (end - head + inner - 1) / inner);
                if (from < to && !ReadStrip(
                    disk, file, tensor.Offset + ((Place(dimensions, head) + (from * step)) * width), (int)(to - from), (int)step * width,
                    destination[(int)((head + (from * inner) - first) * width)..], (int)inner * width, width))
                {
                    return false;
                }
            }
        }

        return true;
    }

    private static bool ReadStrip(
        IDisk disk, SafeFileHandle file, long offset, int count, int pitch, Span<byte> destination, int distance, int width)
    {
        if (pitch == width && distance == width)
        {
            return file.ReadFully(destination[..(count * width)], offset, disk);
        }

        var length = ((count - 1) * pitch) + width;
        var strip = ArrayPool<byte>.Shared.Rent(length);
        var read = file.ReadFully(strip.AsSpan(0, length), offset, disk);
        for (var i = 0; i < count; i++)
        {
            strip.AsSpan(i * pitch, width).CopyTo(destination[(i * distance)..]);
        }

        ArrayPool<byte>.Shared.Return(strip);
        return read;
    }

    private static long Place(IReadOnlyList<(long Count, long Step)> dimensions, long element)
    {
        var place = 0L;
        for (var d = dimensions.Count - 1; d >= 0; element /= dimensions[d--].Count)
        {
            place += element % dimensions[d].Count * dimensions[d].Step;
        }

        return place;
    }
}
