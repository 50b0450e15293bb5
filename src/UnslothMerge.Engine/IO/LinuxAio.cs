using static UnslothMerge.Files.SystemCalls;

namespace UnslothMerge.IO;

/// <summary>Linux's asynchronous I/O, for files opened past the page cache: io_setup(2), io_submit(2), io_getevents(2), io_destroy(2), and
/// O_DIRECT of open(2).</summary>
internal static unsafe class LinuxAio
{
    public static bool IsSupported => Aio.Direct != 0;

    /// <summary>Opens a file a second time, to write to it past the page cache. Null for file systems
    /// other than ext4 and XFS, which may write synchronously.</summary>
    public static SafeFileHandle? OpenDirectly(SafeFileHandle file)
    {
        var status = stackalloc nint[32];
        if (!IsSupported || FileStatus(file, status) != 0 || status[0] is not (Ext4 or Xfs))
        {
            return null;
        }

        var descriptor = Open($"/proc/self/fd/{file.DangerousGetHandle()}", WriteOnly | CloseOnExec | Aio.Direct);
        return descriptor < 0 ? null : new SafeFileHandle(descriptor, ownsHandle: true);
    }

    /// <summary>Makes a context for so many writes at a time; null if the system has none left.</summary>
    public static nint? Setup(int count)
    {
        nint context = 0;
        return IsSupported && Call(Aio.Setup, count, (nint)(&context), 0, 0, 0) == 0 ? context : null;
    }

    public static void Destroy(nint context) => _ = Call(Aio.Destroy, context, 0, 0, 0, 0);

    /// <summary>Begins to write whole pages, outside the garbage collector's heap, which stay until the write is done, to a file of
    /// <see cref="OpenDirectly"/>; false if it was not begun. The tag identifies the write once it is done.</summary>
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
            return Call(Aio.Submit, context, 1, (nint)(&blocks), 0, 0) == 1;
        }
    }

    /// <summary>Takes a write that is done, if there is one: its tag, and the number of bytes written, or a negative error
    /// number.</summary>
    public static (int Tag, long Written)? TryTake(nint context)
    {
        Timespan none = default;
        return TakeWithin(context, &none);
    }

    /// <summary>Waits for a write that is done.</summary>
    /// <inheritdoc cref="TryTake"/>
    public static (int Tag, long Written) Take(nint context) =>
        TakeWithin(context, null) ?? throw new InvalidOperationException("No write is under way.");

    /// <summary>Throws if a finished write has failed; not if the file system only refused this way of writing, or left some
    /// bytes.</summary>
    public static void ThrowIfFailed(long written)
    {
        if (written < 0
            && -written is not (ErrorNumber.TryAgain or ErrorNumber.NoMemory or ErrorNumber.Invalid or ErrorNumber.NotSupported))
        {
            throw new IOException(Marshal.GetPInvokeErrorMessage((int)-written), (int)-written);
        }
    }

    private static (int Tag, long Written)? TakeWithin(nint context, Timespan* timeout)
    {
        Event done;
        nint count;
        while ((count = Call(Aio.GetEvents, context, timeout is null ? 1 : 0, 1, (nint)(&done), (nint)timeout)) < 0)
        {
            var error = Marshal.GetLastPInvokeError();
            if (error != ErrorNumber.Interrupted)
            {
                throw new IOException(Marshal.GetPInvokeErrorMessage(error), error);
            }
        }

        return count == 0 ? null : ((int)done.Data, done.Result);
    }
}
