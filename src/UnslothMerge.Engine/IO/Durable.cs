namespace UnslothMerge.IO;

/// <summary>Makes what was written survive a loss of power: file data, and the names in a directory.</summary>
internal static class Durable
{
    /// <summary>
    /// Asks the system to begin to write a file's data to the disk, without waiting for it, so that a flush at the end finds little left
    /// to do. A hint: where there is no such call, or it fails, the flush does all of it.
    /// </summary>
    public static void BeginFlush(SafeFileHandle file)
    {
        if (OperatingSystem.IsLinux())
        {
            _ = SystemCalls.SyncFileRange(file, 0, 0, SystemCalls.BeginWriting);
        }
    }

    /// <summary>Flushes all files and directories below a directory, and itself.</summary>
    public static void FlushTree(string path)
    {
        foreach (var file in Directory.EnumerateFiles(path, "*", SearchOption.AllDirectories))
        {
            using var handle = File.OpenHandle(file, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
            RandomAccess.FlushToDisk(handle);
        }

        foreach (var directory in Directory.EnumerateDirectories(path, "*", SearchOption.AllDirectories).Append(path))
        {
            FlushDirectory(directory);
        }
    }

    /// <summary>Flushes a directory's entries to the disk, where the system has such a call. Windows journals them.</summary>
    public static void FlushDirectory(string path)
    {
        if (OperatingSystem.IsWindows())
        {
            return;
        }

        var descriptor = SystemCalls.Open(path, 0);
        if (descriptor >= 0)
        {
            // Some file systems (network, FUSE) refuse to flush a directory; then nothing more can be done.
            _ = SystemCalls.Sync(descriptor);
            _ = SystemCalls.Close(descriptor);
        }
    }
}
