using static UnslothMerge.Files.SystemCalls;

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

    public SafeFileHandle Open(string path) => RegularFile.Open(path);

    public int Read(SafeFileHandle file, Span<byte> bytes, long at)
    {
        try
        {
            return RandomAccess.Read(file, bytes, at);
        }
        catch (OperationCanceledException e)
        {
            throw Canceled(e);
        }
    }

    public SafeFileHandle Create(string path, long preallocated = 0) =>
        File.OpenHandle(path, FileMode.CreateNew, FileAccess.Write, FileShare.Read, FileOptions.None, preallocated);

    public SafeFileHandle OpenOrCreate(string path) =>
        File.OpenHandle(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read);

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
                : OperatingSystem.IsMacOS() ? FileClone.Replace(source, path, ref clone)
                : OperatingSystem.IsWindows() ? FileClone.Duplicate(original, path, clone) : ErrorNumber.NotSupported;
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
        catch (ArgumentOutOfRangeException)
        {
            throw TooLarge(length);
        }
        catch (OperationCanceledException e)
        {
            throw Canceled(e);
        }
    }

    public void Write(SafeFileHandle file, ReadOnlySpan<byte> bytes, long at)
    {
        try
        {
            RandomAccess.Write(file, bytes, at);
        }
        catch (ArgumentOutOfRangeException)
        {
            throw TooLarge(at + bytes.Length);
        }
        catch (OperationCanceledException e)
        {
            throw Canceled(e);
        }
    }

    // A SafeFileHandle keeps to itself what close(2) says. The descriptor is free after an error, too.
    public void Close(SafeFileHandle file)
    {
        if (OperatingSystem.IsWindows())
        {
            file.Dispose();
            return;
        }

        var descriptor = (int)file.DangerousGetHandle();
        file.SetHandleAsInvalid();
        if (SystemCalls.Close(descriptor) != 0 && Marshal.GetLastPInvokeError() != ErrorNumber.Interrupted)
        {
            throw Failed("a file could not be closed");
        }
    }

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
            Sync(file, path);
        }
    }

    // Windows journals directories.
    public void FlushDirectory(string path)
    {
        if (!OperatingSystem.IsWindows() && OpenDirectory(path) is { } directory)
        {
            using (directory)
            {
                Sync(directory, path);
            }
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

    public bool TryExchange(string one, string other)
    {
        if (!OperatingSystem.IsLinux())
        {
            return false;
        }

        while (SystemCalls.Rename(SystemCalls.CurrentDirectory, one, SystemCalls.CurrentDirectory, other, SystemCalls.Exchange) != 0)
        {
            switch (Marshal.GetLastPInvokeError())
            {
                case ErrorNumber.Interrupted:
                    continue;

                // The kernel or the file system has no such call.
                case ErrorNumber.Invalid or ErrorNumber.NoSuchCall or ErrorNumber.NotSupported or ErrorNumber.NotPermitted:
                    return false;

                default:
                    throw Failed($"'{one}' and '{other}' could not exchange their names");
            }
        }

        return true;
    }

    public void DeleteFile(string path) => File.Delete(path);

    public void DeleteDirectory(string path) => Directory.Delete(path);

    // A directory that may be written but not read cannot be opened, and so not be flushed: null.
    private static SafeFileHandle? OpenDirectory(string path)
    {
        int descriptor;
        while ((descriptor = SystemCalls.Open(path, OperatingSystem.IsLinux() ? SystemCalls.CloseOnExec : 0)) < 0)
        {
            switch (Marshal.GetLastPInvokeError())
            {
                case ErrorNumber.Interrupted:
                    continue;
                case ErrorNumber.AccessDenied:
                    return null;
                default:
                    throw Failed($"'{path}' could not be opened to flush it to the disk");
            }
        }

        return new SafeFileHandle(descriptor, ownsHandle: true);
    }

    private static void Sync(SafeFileHandle file, string path)
    {
        while (SystemCalls.Sync(file) != 0)
        {
            switch (Marshal.GetLastPInvokeError())
            {
                case ErrorNumber.Interrupted:
                    continue;

                // Some file systems (network, FUSE) have no flush, and say so: then nothing more can be done.
                case ErrorNumber.Invalid or ErrorNumber.NotSupported or ErrorNumber.NotSupportedOnMac or ErrorNumber.ReadOnlyFileSystem:
                    return;
                default:
                    throw Failed($"'{path}' could not be flushed to the disk");
            }
        }
    }

    // With the number of the error, as the exceptions of .NET have it.
    private static IOException Failed(string what) =>
        new($"{what}: {Marshal.GetLastPInvokeErrorMessage()}.", Marshal.GetLastPInvokeError());

    // .NET takes ECANCELED for the wish of the caller, who would end in silence.
    private static IOException Canceled(OperationCanceledException e) => new($"the system has cancelled it: {e.Message}", e);

    // .NET takes EFBIG for a mistake of the caller.
    private static IOException TooLarge(long bytes) => new(
        $"a file of {ByteSize.Text(bytes)} is larger than the file system, or a limit of this user, allows.", ErrorNumber.FileTooLarge);
}
