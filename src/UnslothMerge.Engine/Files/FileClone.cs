using System.Runtime.Versioning;

namespace UnslothMerge.Files;

/// <summary>Files that share their blocks (copy on write): XFS, btrfs and others on Linux, APFS on macOS, ReFS on Windows.</summary>
internal static unsafe class FileClone
{
    // ReFS takes less than 4 GB at a time, in whole clusters of 4 or 64 KiB.
    private const long MostDuplicated = 1L << 30;

    /// <summary>Lets an empty file have all blocks of another one; gives an error number, or 0.</summary>
    public static int Share(SafeFileHandle original, SafeFileHandle clone)
    {
        var kept = false;
        original.DangerousAddRef(ref kept);
        try
        {
            // A length of 0 goes to the end.
            var range = new SystemCalls.CloneRange { Source = original.DangerousGetHandle() };
            return SystemCalls.Control(clone, SystemCalls.CloneFileRange, &range) == 0 ? 0 : Marshal.GetLastPInvokeError();
        }
        finally
        {
            original.DangerousRelease();
        }
    }

    /// <summary>Lets an empty file on ReFS have all blocks of another one; gives an error number, or 0. Source: Windows' documentation of
    /// FSCTL_DUPLICATE_EXTENTS_TO_FILE.</summary>
    [SupportedOSPlatform("windows")]
    public static int Duplicate(SafeFileHandle original, string path, SafeFileHandle clone)
    {
        if (!SystemCalls.GetClusters(Path.GetPathRoot(Path.GetFullPath(path))!, out var sectors, out var bytes, out _, out _))
        {
            return Marshal.GetLastPInvokeError();
        }

        // The file has its length first; its last cluster is cloned as a whole.
        var (length, cluster) = (RandomAccess.GetLength(original), (long)sectors * bytes);
        RandomAccess.SetLength(clone, length);
        var kept = false;
        original.DangerousAddRef(ref kept);
        try
        {
            for (var start = 0L; start < length; start += MostDuplicated)
            {
                var part = Math.Min(MostDuplicated, length - start);
                var range = new SystemCalls.DuplicateExtents
                {
                    Source = original.DangerousGetHandle(),
                    SourceOffset = start,
                    Offset = start,
                    Length = (part + cluster - 1) / cluster * cluster,
                };
                if (!SystemCalls.Control(
                    clone, SystemCalls.DuplicateExtentsToFile, &range, sizeof(SystemCalls.DuplicateExtents), 0, 0, out _, 0))
                {
                    return Marshal.GetLastPInvokeError();
                }
            }

            return 0;
        }
        finally
        {
            original.DangerousRelease();
        }
    }

    /// <summary>Puts a clone in the place of an empty file, with its mode; gives an error number, or 0.</summary>
    [SupportedOSPlatform("macos")]
    public static int Replace(string original, string path, ref SafeFileHandle clone)
    {
        var mode = File.GetUnixFileMode(path);
        clone.Dispose();
        File.Delete(path);
        if (SystemCalls.CloneFile(original, path, SystemCalls.CloneNoOwner) != 0)
        {
            return Marshal.GetLastPInvokeError();
        }

        File.SetUnixFileMode(path, mode);
        clone = File.OpenHandle(path, FileMode.Open, FileAccess.Write, FileShare.Read);
        return 0;
    }

    /// <summary>Why a file could not be cloned.</summary>
    public static string Text(int error) => error switch
    {
        _ when OperatingSystem.IsWindows() => $"Windows does not share blocks here: {Marshal.GetPInvokeErrorMessage(error)}",
        SystemCalls.ErrorNumber.OtherDevice => "the base lies on another file system",
        SystemCalls.ErrorNumber.NotSupported or SystemCalls.ErrorNumber.NoControl or SystemCalls.ErrorNumber.Invalid
            or SystemCalls.ErrorNumber.NotSupportedOnMac => "the file system cannot share blocks",
        _ => Marshal.GetPInvokeErrorMessage(error),
    };
}
