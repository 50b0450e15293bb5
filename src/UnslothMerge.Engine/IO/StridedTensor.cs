namespace UnslothMerge.IO;

/// <summary>Reads tensors whose elements do not lie side by side: transposed, every second row, some columns.</summary>
internal static class StridedTensor
{
    private const int StripBytes = 1 << 20;

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
                    disk, file, tensor.Offset + ((Place(dimensions, head) + (from * step)) * width), to - from, step * width,
                    destination[(int)((head + (from * inner) - first) * width)..], inner * width, width))
                {
                    return false;
                }
            }
        }

        return true;
    }

    // Elements that lie far apart are read one by one.
    private static bool ReadStrip(
        IDisk disk, SafeFileHandle file, long offset, long count, long pitch, Span<byte> destination, long distance, int width)
    {
        if (pitch == width && distance == width)
        {
            return file.ReadFully(destination[..(int)(count * width)], offset, disk);
        }

        var most = pitch == 0 ? count : Math.Max(1, StripBytes / pitch);
        var strip = ArrayPool<byte>.Shared.Rent((int)(((Math.Min(most, count) - 1) * pitch) + width));
        var read = true;
        for (var done = 0L; done < count && read; done += most)
        {
            var now = Math.Min(most, count - done);
            read = file.ReadFully(strip.AsSpan(0, (int)(((now - 1) * pitch) + width)), offset + (done * pitch), disk);
            for (var i = 0L; i < now; i++)
            {
                strip.AsSpan((int)(i * pitch), width).CopyTo(destination[(int)((done + i) * distance)..]);
            }
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
