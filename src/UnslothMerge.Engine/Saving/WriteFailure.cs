using static UnslothMerge.Files.SystemCalls;

namespace UnslothMerge.Saving;

/// <summary>The errors of a destination that the system does not write, by what a caller can do about them.</summary>
internal static class WriteFailure
{
    // What file systems allow for one name, less what a model's name is longer by until it is complete.
    private const int MostNameBytes = 255 - 32;

    /// <summary>Tells a full disk and a lack of permission from all else.</summary>
    public static MergeException At(string path, Exception cause)
    {
        var (error, advice) = cause switch
        {
            UnauthorizedAccessException => (MergeError.AccessDenied, "Choose another -Destination, or make this one writable."),
            IOException { HResult: var code } when IsReadOnly(code) =>
                (MergeError.AccessDenied, "Choose a -Destination on a disk that may be written."),
            IOException { HResult: var code } when IsFull(code) =>
                (MergeError.DiskFull, "Free some space, or choose a -Destination on another disk."),
            IOException { HResult: ErrorNumber.FileTooLarge } when !OperatingSystem.IsWindows() =>
                (MergeError.WriteFailed, "Use a smaller -MaxShardSize, raise the limit (ulimit -f), or choose a -Destination on another "
                    + "file system."),
            IOException { HResult: ErrorNumber.TooManyOpen or ErrorNumber.TooManyOpenInSystem } when !OperatingSystem.IsWindows() =>
                (MergeError.WriteFailed, "Raise the limit (ulimit -n), or use a larger -MaxShardSize."),
            _ => (MergeError.WriteFailed, "Check the disk or network share, or choose another -Destination."),
        };
        return new MergeException(error, $"'{path}' could not be written: {cause.Message}", path, advice, cause);
    }

    /// <summary>Refuses names that no file system takes, before the system says so with the whole path twice.</summary>
    public static void RequireNames(string given, string path)
    {
        var name = path.Split(Path.DirectorySeparatorChar).MaxBy(Encoding.UTF8.GetByteCount)!;
        if (Encoding.UTF8.GetByteCount(name) is > MostNameBytes and var bytes)
        {
            throw new MergeException(
                MergeError.InvalidDestination,
                $"A name in the destination has {bytes} bytes, but may have {MostNameBytes} at most: '{name[..24]}…'.", given,
                "Choose a shorter -Destination.");
        }
    }

    // ENOSPC, EDQUOT; ERROR_DISK_FULL, ERROR_HANDLE_DISK_FULL.
    private static bool IsFull(int code) =>
        OperatingSystem.IsWindows() ? (code & 0xffff) is 112 or 39 : code is ErrorNumber.NoSpace
            || code == (OperatingSystem.IsMacOS() ? 69 : ErrorNumber.QuotaExceeded);

    // EROFS; ERROR_WRITE_PROTECT.
    private static bool IsReadOnly(int code) =>
        OperatingSystem.IsWindows() ? (code & 0xffff) == 19 : code == ErrorNumber.ReadOnlyFileSystem;
}
