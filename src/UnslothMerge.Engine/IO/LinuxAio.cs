using System.ComponentModel;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace UnslothMerge.IO;

/// <summary>
/// Linux's asynchronous I/O, for files opened past the page cache: io_setup(2), io_submit(2), io_getevents(2), io_destroy(2), and O_DIRECT of open(2).
/// The C library has no functions for these calls, so they go by their numbers.
/// </summary>
internal static unsafe partial class LinuxAio
{
    private const ushort WriteCommand = 1;
    private const int WriteOnly = 1;
    private const int CloseOnExec = 0x80000;
    private const int Interrupted = 4;
    private const int TryAgain = 11;
    private const int NoMemory = 12;
    private const int Invalid = 22;
    private const int NotSupported = 95;
    private const int LargePage = 2 * 1024 * 1024;
    private const int UseLargePages = 14;

    // Of the file systems that offer direct writes, those known to leave them to the disk at once: ext4 and XFS. Others may write with the thread's time.
    private static readonly nint[] FileSystems = [0xEF53, 0x58465342];

    private static readonly (nint Setup, nint Destroy, nint GetEvents, nint Submit, int Direct) Numbers = RuntimeInformation.ProcessArchitecture switch
    {
        Architecture.X64 => (206, 207, 208, 209, 0x4000),
        Architecture.Arm64 => (0, 1, 4, 2, 0x10000),
        _ => default,
    };

    private static bool IsSupported => OperatingSystem.IsLinux() && Numbers.Direct != 0;

    /// <summary>Opens a file a second time, to write to it past the page cache.</summary>
    /// <param name="file">The open file.</param>
    /// <returns>Null if its file system has no such way.</returns>
    public static SafeFileHandle? OpenDirectly(SafeFileHandle file)
    {
        if (!IsSupported || !FileSystems.Contains(FileSystemOf(file)))
        {
            return null;
        }

        var descriptor = Open($"/proc/self/fd/{file.DangerousGetHandle()}", WriteOnly | CloseOnExec | Numbers.Direct);
        return descriptor < 0 ? null : new SafeFileHandle(descriptor, ownsHandle: true);
    }

    /// <summary>Makes a context.</summary>
    /// <param name="count">The most writes at a time.</param>
    /// <returns>Null if the system has none to give.</returns>
    public static nint? Setup(int count)
    {
        nint context = 0;
        return IsSupported && Call(Numbers.Setup, count, (nint)(&context), 0, 0, 0) == 0 ? context : null;
    }

    /// <summary>Gives a context back.</summary>
    public static void Destroy(nint context) => _ = Call(Numbers.Destroy, context, 0, 0, 0, 0);

    /// <summary>The bytes that <see cref="Allocate"/> takes.</summary>
    public static long Allocated(long length) => (length + LargePage - 1) & -LargePage;

    /// <summary>Takes memory to write from: in large pages, if the system has them, because beginning a write costs time for every page.</summary>
    /// <param name="length">The least length in bytes.</param>
    public static NativeBuffer Allocate(long length)
    {
        var buffer = new NativeBuffer(Allocated(length), LargePage);
        fixed (byte* start = buffer.Bytes)
        {
            _ = Advise(start, (nuint)buffer.Length, UseLargePages);
        }

        return buffer;
    }

    /// <summary>Begins a write.</summary>
    /// <param name="context">The context.</param>
    /// <param name="file">The file, from <see cref="OpenDirectly"/>.</param>
    /// <param name="bytes">The bytes, on pages outside the garbage collector's heap, which stay until the write is done.</param>
    /// <param name="at">Where they go.</param>
    /// <param name="tag">By which the write is known once it is done.</param>
    /// <returns>False if it was not begun.</returns>
    public static bool TryBeginWrite(nint context, SafeFileHandle file, Span<byte> bytes, long at, int tag)
    {
        fixed (byte* start = bytes)
        {
            var block = new ControlBlock
            {
                Data = (ulong)tag,
                Command = WriteCommand,
                Descriptor = (uint)file.DangerousGetHandle(),
                Buffer = (ulong)start,
                Length = (ulong)bytes.Length,
                Offset = at,
            };
            var blocks = &block;
            return Call(Numbers.Submit, context, 1, (nint)(&blocks), 0, 0) == 1;
        }
    }

    /// <summary>Takes a write that is done, if there is one.</summary>
    /// <returns>Its tag, and the number of bytes written, or a negative number if it failed.</returns>
    public static (int Tag, long Written)? TryTake(nint context)
    {
        Timespan none = default;
        return TakeWithin(context, &none);
    }

    /// <summary>Waits for a write that is done.</summary>
    /// <inheritdoc cref="TryTake"/>
    public static (int Tag, long Written) Take(nint context) => TakeWithin(context, null) ?? throw new InvalidOperationException("No write is under way.");

    private static nint FileSystemOf(SafeFileHandle file)
    {
        // struct statfs: 120 bytes, of which the first word tells the file system.
        var status = stackalloc nint[32];
        return FileStatus(file, status) == 0 ? status[0] : 0;
    }

    /// <summary>Throws if a write that is done has failed; not if the file system only refused to write so, or left some bytes.</summary>
    /// <param name="written">What <see cref="Take"/> said.</param>
    /// <exception cref="IOException">The disk could not do it.</exception>
    public static void ThrowIfFailed(long written)
    {
        if (written < 0 && -written is not (TryAgain or NoMemory or Invalid or NotSupported))
        {
            throw new IOException(Marshal.GetPInvokeErrorMessage((int)-written));
        }
    }

    private static (int Tag, long Written)? TakeWithin(nint context, Timespan* timeout)
    {
        Event done;
        nint count;
        while ((count = Call(Numbers.GetEvents, context, timeout is null ? 1 : 0, 1, (nint)(&done), (nint)timeout)) < 0)
        {
            var error = Marshal.GetLastPInvokeError();
            if (error != Interrupted)
            {
                throw new Win32Exception(error);
            }
        }

        return count == 0 ? null : ((int)done.Data, done.Result);
    }

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial nint Call(nint number, nint a, nint b, nint c, nint d, nint e);

    [LibraryImport("libc", EntryPoint = "madvise")]
    private static partial int Advise(byte* start, nuint length, int advice);

    [LibraryImport("libc", EntryPoint = "fstatfs")]
    private static partial int FileStatus(SafeFileHandle file, nint* status);

    [LibraryImport("libc", EntryPoint = "open", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags);

    /// <summary>struct iocb of linux/aio_abi.h, as little-endian machines have it.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct ControlBlock
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
    private struct Event
    {
        public ulong Data;
        public ulong Block;
        public long Result;
        public long SecondResult;
    }

    /// <summary>struct timespec.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct Timespan
    {
        public nint Seconds;
        public nint Nanoseconds;
    }
}
