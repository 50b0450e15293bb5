namespace UnslothMerge;

/// <summary>Reads that are not content with less.</summary>
internal static class FileReads
{
    /// <summary>Fills a buffer from a place in a file on; false if the file ends before.</summary>
    public static bool ReadFully(this SafeFileHandle file, Span<byte> buffer, long offset)
    {
        while (!buffer.IsEmpty)
        {
            var read = RandomAccess.Read(file, buffer, offset);
            if (read == 0)
            {
                return false;
            }

            buffer = buffer[read..];
            offset += read;
        }

        return true;
    }
}
