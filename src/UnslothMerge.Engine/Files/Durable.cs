namespace UnslothMerge.Files;

/// <summary>Flushes to the disk: file data, and the entries of directories.</summary>
internal static class Durable
{
    /// <summary>Starts writing a file's data to the disk, without waiting, so that the flush at the end is short. A hint: without such a
    /// call, or if it fails, the flush writes everything.</summary>
    public static void BeginFlush(SafeFileHandle file)
    {
        if (OperatingSystem.IsLinux())
        {
            _ = SystemCalls.SyncFileRange(file, 0, 0, SystemCalls.BeginWriting);
        }
    }

    /// <summary>Flushes all files and directories below a directory, and itself.</summary>
    /// <exception cref="IOException">The disk did not take all of it.</exception>
    public static void FlushTree(string path)
    {
        foreach (var file in Directory.EnumerateFiles(path, "*", SearchOption.AllDirectories))
        {
            using var handle = File.OpenHandle(file, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
            FlushFile(handle, file);
        }

        foreach (var directory in Directory.EnumerateDirectories(path, "*", SearchOption.AllDirectories).Append(path))
        {
            FlushDirectory(directory);
        }
    }

    /// <summary>Flushes a directory's entries to the disk, where the system has such a call. Windows journals them.</summary>
    /// <exception cref="IOException">The disk did not take them.</exception>
    public static void FlushDirectory(string path)
    {
        if (OperatingSystem.IsWindows())
        {
            return;
        }

        // A directory that may be written but not read cannot be opened, and so not be flushed.
        var descriptor = SystemCalls.Open(path, 0);
        if (descriptor >= 0)
        {
            using var handle = new SafeFileHandle(descriptor, ownsHandle: true);
            Require(SystemCalls.Sync(handle) == 0, path);
        }
    }

    // RandomAccess.FlushToDisk does not report a failed fsync(2).
    private static void FlushFile(SafeFileHandle file, string path)
    {
        if (OperatingSystem.IsWindows())
        {
            RandomAccess.FlushToDisk(file);
        }
        else if (!OperatingSystem.IsMacOS() || SystemCalls.Control(file, SystemCalls.FullSync) == -1)
        {
            // macOS: fsync(2) leaves the data in the drive's cache; file systems without F_FULLFSYNC have nothing better.
            Require(SystemCalls.Sync(file) == 0, path);
        }
    }

    // Some file systems (network, FUSE) have no flush, and say so: then nothing more can be done.
    private static void Require(bool done, string path)
    {
        if (!done && Marshal.GetLastPInvokeError() is not (
            SystemCalls.ErrorNumber.Invalid or SystemCalls.ErrorNumber.NotSupported or SystemCalls.ErrorNumber.ReadOnlyFileSystem))
        {
            throw new IOException($"'{path}' could not be flushed to the disk: {Marshal.GetLastPInvokeErrorMessage()}.");
        }
    }
}
