namespace UnslothMerge.Files;

/// <summary>All calls to the system, with their numbers and structures: those of Linux on x64 and arm64, some of macOS and Windows.
/// Linux's asynchronous I/O has no functions in the C library, so it goes by the numbers of its system calls.</summary>
internal static unsafe partial class SystemCalls
{
    public const int WriteOnly = 1;
    public const int CloseOnExec = 0x80000;

    /// <summary>SYNC_FILE_RANGE_WRITE of sync_file_range(2): begin to write dirty pages, and do not wait.</summary>
    public const uint BeginWriting = 2;

    /// <summary>MADV_HUGEPAGE of madvise(2).</summary>
    public const int UseLargePages = 14;

    /// <summary>AT_FDCWD: paths are relative to the current directory.</summary>
    public const int CurrentDirectory = -100;

    /// <summary>STATX_BASIC_STATS of statx(2).</summary>
    public const uint BasicStatus = 0x7FF;

    /// <summary>RENAME_EXCHANGE of renameat2(2): both paths exist, and each gets what the other named.</summary>
    public const uint Exchange = 2;

    /// <summary>FICLONERANGE of ioctl(2).</summary>
    public const nuint CloneFileRange = 0x4020940D;

    /// <summary>CLONE_NOOWNERCOPY of clonefile(2).</summary>
    public const uint CloneNoOwner = 2;

    /// <summary>FSCTL_DUPLICATE_EXTENTS_TO_FILE of Windows.</summary>
    public const uint DuplicateExtentsToFile = 0x98344;

    /// <summary>F_FULLFSYNC of macOS.</summary>
    public const int FullSync = 51;

    /// <summary>IOCB_CMD_PWRITE of linux/aio_abi.h.</summary>
    public const ushort WriteCommand = 1;

    /// <summary>The magic numbers of ext4 and XFS, statfs(2).</summary>
    public const nint Ext4 = 0xEF53;
    public const nint Xfs = 0x58465342;

    /// <summary>Of asynchronous I/O: the numbers of its calls, and O_DIRECT of open(2). Zero where there is none.</summary>
    public static readonly (nint Setup, nint Destroy, nint GetEvents, nint Submit, int Direct) Aio =
        !OperatingSystem.IsLinux() ? default : RuntimeInformation.ProcessArchitecture switch
        {
            Architecture.X64 => (206, 207, 208, 209, 0x4000),
            Architecture.Arm64 => (0, 1, 4, 2, 0x10000),
            _ => default,
        };

    /// <summary>True if the process was started to live on when its terminal closes (nohup): SIGHUP is ignored.</summary>
    public static bool IgnoresHangup => OperatingSystem.IsLinux() && File.ReadLines("/proc/self/status")
        .Where(l => l.StartsWith("SigIgn:", StringComparison.Ordinal))
        .Any(l => (ulong.Parse(l.AsSpan("SigIgn:".Length).Trim(), NumberStyles.HexNumber, CultureInfo.InvariantCulture) & 1) != 0);

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    public static partial nint Call(nint number, nint a, nint b, nint c, nint d, nint e);

    [LibraryImport("libc", EntryPoint = "madvise")]
    public static partial int Advise(void* start, nuint length, int advice);

    /// <summary>Fills a struct statfs: 120 bytes, of which the first word is the file system's magic number.</summary>
    [LibraryImport("libc", EntryPoint = "fstatfs")]
    public static partial int FileStatus(SafeFileHandle file, nint* status);

    [LibraryImport("libc", EntryPoint = "open", StringMarshalling = StringMarshalling.Utf8, SetLastError = true)]
    public static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "close", SetLastError = true)]
    public static partial int Close(int descriptor);

    [LibraryImport("libc", EntryPoint = "sync_file_range")]
    public static partial int SyncFileRange(SafeFileHandle file, long offset, long length, uint flags);

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    public static partial int Sync(SafeFileHandle file);

    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    public static partial int Control(SafeFileHandle file, int command);

    [LibraryImport("libc", EntryPoint = "ioctl", SetLastError = true)]
    public static partial int Control(SafeFileHandle file, nuint request, CloneRange* argument);

    /// <summary>clonefile(2) of macOS.</summary>
    [LibraryImport("libc", EntryPoint = "clonefile", StringMarshalling = StringMarshalling.Utf8, SetLastError = true)]
    public static partial int CloneFile(string source, string path, uint flags);

    /// <summary>DeviceIoControl of Windows.</summary>
    [LibraryImport("kernel32", EntryPoint = "DeviceIoControl", SetLastError = true)]
    [return: MarshalAs(UnmanagedType.Bool)]
    public static partial bool Control(
        SafeFileHandle file, uint request, DuplicateExtents* input, int inputBytes, nint output, int outputBytes, out int returned,
        nint overlapped);

    /// <summary>GetDiskFreeSpaceW of Windows; a cluster has bytesPerSector · sectorsPerCluster bytes.</summary>
    [LibraryImport("kernel32", EntryPoint = "GetDiskFreeSpaceW", StringMarshalling = StringMarshalling.Utf16, SetLastError = true)]
    [return: MarshalAs(UnmanagedType.Bool)]
    public static partial bool GetClusters(
        string root, out uint sectorsPerCluster, out uint bytesPerSector, out uint free, out uint all);

    /// <summary>statx(2).</summary>
    [LibraryImport("libc", EntryPoint = "statx", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int GetStatus(int directory, string path, int flags, uint mask, Status* status);

    /// <summary>renameat2(2), of the C library since glibc 2.28.</summary>
    [LibraryImport("libc", EntryPoint = "renameat2", StringMarshalling = StringMarshalling.Utf8, SetLastError = true)]
    public static partial int Rename(int fromDirectory, string from, int toDirectory, string to, uint flags);

    /// <summary>Error numbers of errno.h, the same on every Linux.</summary>
    internal static class ErrorNumber
    {
        public const int NotPermitted = 1;
        public const int Interrupted = 4;
        public const int TryAgain = 11;
        public const int NoMemory = 12;
        public const int AccessDenied = 13;
        public const int OtherDevice = 18;
        public const int Invalid = 22;
        public const int TooManyOpenInSystem = 23;
        public const int TooManyOpen = 24;
        public const int NoControl = 25;
        public const int FileTooLarge = 27;
        public const int NoSpace = 28;
        public const int ReadOnlyFileSystem = 30;
        public const int NoSuchCall = 38;
        public const int NotSupportedOnMac = 45;
        public const int NotSupported = 95;
        public const int QuotaExceeded = 122;
    }

    /// <summary>The fields of struct statx that are used; it has 256 bytes.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 256)]
    internal struct Status
    {
        [FieldOffset(28)] public ushort Mode;
        [FieldOffset(32)] public ulong Inode;
        [FieldOffset(40)] public ulong Size;
        [FieldOffset(96)] public long ChangedSeconds;
        [FieldOffset(104)] public uint ChangedNanoseconds;
        [FieldOffset(112)] public long ModifiedSeconds;
        [FieldOffset(120)] public uint ModifiedNanoseconds;
        [FieldOffset(136)] public uint DeviceMajor;
        [FieldOffset(140)] public uint DeviceMinor;
    }

    /// <summary>struct file_clone_range of linux/fs.h.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct CloneRange
    {
        public long Source;
        public ulong SourceOffset;
        public ulong Length;
        public ulong Offset;
    }

    /// <summary>DUPLICATE_EXTENTS_DATA of Windows' winioctl.h.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct DuplicateExtents
    {
        public nint Source;
        public long SourceOffset;
        public long Offset;
        public long Length;
    }

    /// <summary>struct iocb of linux/aio_abi.h, as little-endian machines have it.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct ControlBlock
    {
        public ulong Data;
        public uint Key;
        public uint WriteFlags;
        public ushort Command;
        public short Priority;
        public uint Descriptor;
        public ulong Buffer;
        public ulong Length;
        public long Offset;
        public ulong Reserved;
        public uint Flags;
        public uint EventDescriptor;
    }

    /// <summary>struct io_event of linux/aio_abi.h.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct Event
    {
        public ulong Data;
        public ulong Block;
        public long Result;
        public long SecondResult;
    }

    /// <summary>struct timespec.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct Timespan
    {
        public nint Seconds;
        public nint Nanoseconds;
    }
}
