namespace UnslothMerge.Files;

/// <summary>The disks of this machine.</summary>
internal sealed class SystemDisk : IDisk
{
    private SystemDisk()
    {
    }

    public static SystemDisk Instance { get; } = new();

    public bool AllowsDirectWrites => true;

    public bool IsMountPoint(string path) =>
        DriveInfo.GetDrives().Any(d => Path.TrimEndingDirectorySeparator(d.Name) == path);

    public SafeFileHandle Create(string path, long preallocated = 0) =>
        File.OpenHandle(path, FileMode.CreateNew, FileAccess.Write, FileShare.Read, FileOptions.None, preallocated);

    public SafeFileHandle? TryClone(string source, string path, out string? obstacle)
    {
        SafeFileHandle original;
        try
        {
            original = RegularFile.Open(source);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            obstacle = e.Message;
            return null;
        }

        using (original)
        {
            var clone = Create(path);
            var error = OperatingSystem.IsLinux() ? FileClone.Share(original, clone)
                : OperatingSystem.IsMacOS() ? FileClone.Replace(source, path, ref clone) : SystemCalls.ErrorNumber.NotSupported;
            if (error == 0)
            {
                obstacle = null;
                return clone;
            }

            clone.Dispose();
            File.Delete(path);
            obstacle = FileClone.Text(error);
            return null;
        }
    }

    public void SetLength(SafeFileHandle file, long length)
    {
        try
        {
            RandomAccess.SetLength(file, length);
        }
        catch (ArgumentOutOfRangeException e)
        {
            // So .NET takes EFBIG.
            throw new IOException($"a file of {ByteSize.Text(length)} is too large for the file system, or for this user.", e);
        }
    }

    public void Write(SafeFileHandle file, ReadOnlySpan<byte> bytes, long at) => RandomAccess.Write(file, bytes, at);

    public void BeginFlush(SafeFileHandle file)
    {
        if (OperatingSystem.IsLinux())
        {
            _ = SystemCalls.SyncFileRange(file, 0, 0, SystemCalls.BeginWriting);
        }
    }

    // RandomAccess.FlushToDisk does not report a failed fsync(2).
    public void Flush(string path)
    {
        using var file = File.OpenHandle(path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
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

    // Windows journals directories.
    public void FlushDirectory(string path)
    {
        // A directory that may be written but not read cannot be opened, and so not be flushed.
        if (!OperatingSystem.IsWindows() && SystemCalls.Open(path, 0) is >= 0 and var descriptor)
        {
            using var handle = new SafeFileHandle(descriptor, ownsHandle: true);
            Require(SystemCalls.Sync(handle) == 0, path);
        }
    }

    public void CreateDirectory(string path) => Directory.CreateDirectory(path);

    public void Move(string from, string to)
    {
        if (File.Exists(from))
        {
            File.Move(from, to, overwrite: true);
        }
        else
        {
            Directory.Move(from, to);
        }
    }

    public bool TryExchange(string one, string other) => OperatingSystem.IsLinux() && SystemCalls.Rename(
        SystemCalls.CurrentDirectory, one, SystemCalls.CurrentDirectory, other, SystemCalls.Exchange) == 0;

    public void DeleteFile(string path) => File.Delete(path);

    public void DeleteDirectory(string path) => Directory.Delete(path);

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
