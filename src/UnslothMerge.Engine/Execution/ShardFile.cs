using Microsoft.Win32.SafeHandles;
using UnslothMerge.IO;

namespace UnslothMerge.Execution;

/// <summary>
/// A shard that is being written. A system lets one thread at a time write to a file, and others wait in line, often busily. Here, a thread that finds
/// another one writing leaves its bytes to that and goes on with the next piece; what the disk has time for, it writes past the page cache by itself.
/// </summary>
/// <param name="handle">The file.</param>
/// <param name="spares">Where bytes are left; without, or if there is no room, threads wait in line.</param>
/// <param name="direct">Takes as much as the disk keeps up with.</param>
internal sealed class ShardFile(SafeFileHandle handle, SpareBuffers? spares = null, DirectWrites? direct = null)
{
    // A page cache puts the whole of such a block into one piece of memory, and is done sooner. Larger ones cost it less still, while it finds pieces of
    // that size; where memory is used up or in fragments it does not, and a write takes three times as long. This is the size in which cp writes.
    private const int BlockBytes = 64 * 1024;

    private readonly Lock _gate = new();
    private readonly Queue<Left> _left = new();
    private readonly DirectWrites.DirectFile? _direct = direct?.Open(handle);
    private bool _busy;

    /// <summary>
    /// Writes bytes, or leaves them to the disk or to a thread that is in this method: once none is, and the disk was waited for, all are written.
    /// </summary>
    /// <param name="at">Where they go.</param>
    /// <param name="bytes">The bytes.</param>
    public void Write(long at, ReadOnlySpan<byte> bytes)
    {
        var start = (int)Math.Min(bytes.Length, -at & (DirectWrites.PageBytes - 1));
        var end = bytes.Length - (int)((at + bytes.Length) & (DirectWrites.PageBytes - 1));
        if (start < end && _direct is not null && direct!.TryWrite(_direct, at + start, bytes[start..end]))
        {
            WriteOrLeave(at, bytes[..start]);
            WriteOrLeave(at + end, bytes[end..]);
        }
        else
        {
            WriteOrLeave(at, bytes);
        }
    }

    private void WriteOrLeave(long at, ReadOnlySpan<byte> bytes)
    {
        if (bytes.IsEmpty)
        {
            return;
        }

        if (TryBegin(null))
        {
            WriteNow(at, bytes);
            WriteLeft();
        }
        else if (spares?.TryTake(bytes.Length) is { } spare)
        {
            StreamingCopy.Copy(bytes, spare.Bytes);
            var left = new Left(at, bytes.Length, spare);
            if (TryBegin(left))
            {
                WriteNow(left);
                WriteLeft();
            }
        }
        else
        {
            WriteNow(at, bytes);
        }
    }

    /// <summary>Lets the disk begin with what was written.</summary>
    public void BeginFlush() => Durable.BeginFlush(handle);

    // True if no thread is writing: then it is up to the caller. If not, the one that is will write what is left.
    private bool TryBegin(Left? left)
    {
        lock (_gate)
        {
            if (_busy && left is not null)
            {
                _left.Enqueue(left);
            }

            return !_busy && (_busy = true);
        }
    }

    private void WriteLeft()
    {
        while (true)
        {
            Left? left;
            lock (_gate)
            {
                if (!_left.TryDequeue(out left))
                {
                    _busy = false;
                    return;
                }
            }

            WriteNow(left);
        }
    }

    private void WriteNow(Left left)
    {
        WriteNow(left.At, left.Spare.Bytes[..left.Length]);
        spares!.Return(left.Spare);
    }

    private void WriteNow(long at, ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            var block = bytes[..(int)Math.Min(bytes.Length, FileCopy.ToBlock(at, BlockBytes))];
            RandomAccess.Write(handle, block, at);
            bytes = bytes[block.Length..];
            at += block.Length;
        }
    }

    /// <summary>Bytes that were left.</summary>
    private sealed record Left(long At, int Length, NativeBuffer Spare);
}
