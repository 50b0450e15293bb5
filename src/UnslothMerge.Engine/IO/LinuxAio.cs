using System.ComponentModel;
using static UnslothMerge.IO.SystemCalls;

namespace UnslothMerge.IO;

/// <summary>
/// Linux's asynchronous I/O, for files opened past the page cache: io_setup(2), io_submit(2), io_getevents(2), io_destroy(2), and
/// O_DIRECT of open(2).
/// </summary>
internal static unsafe class LinuxAio
{
    public static bool IsSupported => Aio.Direct != 0;

    /// <summary>Opens a file a second time, to write to it past the page cache.</summary>
    /// <returns>
    /// Null if its file system is not known to leave such writes to the disk at once. Others than ext4 and XFS may use the thread's time.
    /// </returns>
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

    /// <summary>Makes a context.</summary>
    /// <param name="count">The most writes at a time.</param>
    /// <returns>Null if the system has none to give.</returns>
    public static nint? Setup(int count)
    {
        nint context = 0;
        return IsSupported && Call(Aio.Setup, count, (nint)(&context), 0, 0, 0) == 0 ? context : null;
    }

    public static void Destroy(nint context) => _ = Call(Aio.Destroy, context, 0, 0, 0, 0);

    /// <summary>Begins a write.</summary>
    /// <param name="context">The context.</param>
    /// <param name="file">The file, from <see cref="OpenDirectly"/>.</param>
    /// <param name="bytes">Whole pages outside the garbage collector's heap, which stay until the write is done.</param>
    /// <param name="at">The offset in the file.</param>
    /// <param name="tag">Identifies the write once it is done.</param>
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
            return Call(Aio.Submit, context, 1, (nint)(&blocks), 0, 0) == 1;
        }
    }

    /// <summary>Takes a write that is done, if there is one.</summary>
    /// <returns>Its tag, and the number of bytes written, or a negative error number.</returns>
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
    /// <param name="written">What <see cref="Take"/> returned.</param>
    /// <exception cref="IOException">The disk could not do it.</exception>
    public static void ThrowIfFailed(long written)
    {
        if (written < 0
            && -written is not (ErrorNumber.TryAgain or ErrorNumber.NoMemory or ErrorNumber.Invalid or ErrorNumber.NotSupported))
        {
            throw new IOException(Marshal.GetPInvokeErrorMessage((int)-written));
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
                throw new Win32Exception(error);
            }
        }

        return count == 0 ? null : ((int)done.Data, done.Result);
    }
}
