namespace UnslothMerge.Formats;

/// <summary>Reads a rectangle of a stored matrix of bytes: as one piece where the rows lie side by side; of short rows the whole, from
/// which a part is taken; of long ones only the part.</summary>
internal static class StridedReads
{
    /// <summary>The bytes that are read in the time of one system call.</summary>
    private const int WorthACall = 8 * 1024;

    private const int BatchBytes = 64 * 1024;

    /// <summary>Reads a rectangle of a tensor, seen as rows of <paramref name="rowBytes"/>: <paramref name="length"/> bytes of each row.
    /// The pitch is the distance between two rows in the destination.</summary>
    public static void Read(InputFiles files, StoredTensor tensor, long rowBytes, long row, int rows, long start, int length,
        Span<byte> destination, int pitch)
    {
        if (length == rowBytes && length == pitch)
        {
            files.Read(tensor, row * rowBytes, destination[..(rows * length)]);
            return;
        }

        if (rowBytes - length > WorthACall)
        {
            for (var i = 0; i < rows; i++)
            {
                files.Read(tensor, ((row + i) * rowBytes) + start, destination.Slice(i * pitch, length));
            }

            return;
        }

        var batch = ArrayPool<byte>.Shared.Rent(BatchBytes);
        var most = (int)(BatchBytes / rowBytes);
        for (var i = 0; i < rows; i += most)
        {
            var count = Math.Min(most, rows - i);
            files.Read(tensor, (row + i) * rowBytes, batch.AsSpan(0, (int)(count * rowBytes)));
            for (var j = 0; j < count; j++)
            {
                batch.AsSpan((int)((j * rowBytes) + start), length).CopyTo(destination[((i + j) * pitch)..]);
            }
        }

        ArrayPool<byte>.Shared.Return(batch);
    }
}
