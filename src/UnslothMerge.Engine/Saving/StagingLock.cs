namespace UnslothMerge.Saving;

/// <summary>Holds a staging directory for one process. The system releases it when the process ends, however it ends.</summary>
internal sealed class StagingLock : IDisposable
{
    public const string Name = "lock";

    private const int UnixWouldBlockLinux = 11;
    private const int UnixWouldBlockMac = 35;
    private const int WindowsSharingViolation = unchecked((int)0x80070020);

    private readonly SafeFileHandle _handle;

    private StagingLock(SafeFileHandle handle) => _handle = handle;

    /// <summary>Takes the lock of a directory; null if another process, or another save of this one, has it.</summary>
    public static StagingLock? TryTake(string directory)
    {
        var path = Path.Combine(directory, Name);
        if (new FileInfo(path).LinkTarget is not null)
        {
            throw new IOException($"'{path}' is a link.");
        }

        while (true)
        {
            SafeFileHandle handle;
            try
            {
                handle = File.OpenHandle(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, FileOptions.DeleteOnClose);
            }
            catch (IOException e) when (e.HResult is UnixWouldBlockLinux or UnixWouldBlockMac or WindowsSharingViolation)
            {
                return null;
            }

            // Who had it may have deleted it since it was opened here.
            var opened = $"/proc/self/fd/{handle.DangerousGetHandle()}";
            if (!OperatingSystem.IsLinux() || FileStatus.Of(opened)?.Inode == FileStatus.Of(path)?.Inode)
            {
                return new StagingLock(handle);
            }

            handle.Dispose();
        }
    }

    /// <summary>Releases it, and deletes its file.</summary>
    public void Dispose() => _handle.Dispose();
}
