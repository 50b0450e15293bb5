namespace UnslothMerge.Files;

/// <summary>Reads that are not content with less.</summary>
internal static class FileReads
{
    /// <summary>Fills a buffer from a place in a file on; false if the file ends before.</summary>
    public static bool ReadFully(this SafeFileHandle file, Span<byte> buffer, long offset, IDisk? disk = null)
    {
        disk ??= SystemDisk.Instance;
        while (!buffer.IsEmpty)
        {
            var read = disk.Read(file, buffer, offset);
            if (read == 0)
            {
                return false;
            }

            buffer = buffer[read..];
            offset += read;
        }

        return true;
    }

    /// <summary>The error of an input, or a tensor in it, that was readable when the merge was planned.</summary>
    public static MergeException Failed(string what, string path, Exception cause) => new(
        MergeError.FileChanged, $"'{what}' cannot be read: {cause.Message}", path,
        "Check the disk or the network share that it lies on, and copy or download the file again.", cause);
}
