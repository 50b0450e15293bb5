using System.Runtime.Versioning;

namespace UnslothMerge.Files;

/// <summary>Files that share their blocks (copy on write): XFS, btrfs and others on Linux, APFS on macOS.</summary>
internal static unsafe class FileClone
{
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
        SystemCalls.ErrorNumber.OtherDevice => "the base lies on another file system",
        SystemCalls.ErrorNumber.NotSupported or SystemCalls.ErrorNumber.NoControl or SystemCalls.ErrorNumber.Invalid
            or SystemCalls.ErrorNumber.NotSupportedOnMac => "the file system cannot share blocks",
        _ => Marshal.GetPInvokeErrorMessage(error),
    };
}
