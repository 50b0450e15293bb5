using UnslothMerge.Files;
using UnslothMerge.IO;

namespace UnslothMerge.Execution;

/// <summary>Writes a shard. A system lets one thread at a time write to a file, and others wait, often busily. Here a thread that finds
/// another one writing queues a copy of its bytes for that thread and continues; whole pages go to the disk past the page cache while it
/// keeps up. Where no buffer is free, threads wait for each other.</summary>
internal sealed class ShardWriter(SafeFileHandle handle, PieceBuffers buffers, DirectWrites? direct) : IDisposable
{
    // The size in which cp writes. The page cache takes larger blocks sooner while it finds memory in one piece of that size; where
    // memory is used up or in fragments a write then takes three times as long.
    private const int BlockBytes = 64 * 1024;

    private readonly Lock _gate = new();
    private readonly Queue<Queued> _queue = new();
    private readonly DirectFile? _direct = direct is null ? null : DirectFile.Open(handle);
    private bool _isBusy;

    /// <summary>Writes bytes at an offset, or queues them: once no thread is in this method and direct writes were waited for, all are
    /// written.</summary>
    public void Write(long at, ReadOnlySpan<byte> bytes)
    {
        var start = (int)Math.Min(bytes.Length, -at & (DirectWrites.PageBytes - 1));
        var end = bytes.Length - (int)((at + bytes.Length) & (DirectWrites.PageBytes - 1));
        if (start < end && _direct is not null && direct!.TryWrite(_direct, at + start, bytes[start..end]))
        {
            WriteOrQueue(at, bytes[..start]);
            WriteOrQueue(at + end, bytes[end..]);
        }
        else
        {
            WriteOrQueue(at, bytes);
        }
    }

    /// <summary>Lets the disk begin with what was written.</summary>
    public void BeginFlush() => Durable.BeginFlush(handle);

    public void Dispose() => _direct?.Dispose();

    private void WriteOrQueue(long at, ReadOnlySpan<byte> bytes)
    {
        if (bytes.IsEmpty)
        {
            return;
        }

        if (!TryBegin(null))
        {
            // Without a buffer this thread writes beside the other one.
            if (buffers.TryCopy(bytes) is not { } buffer)
            {
                WriteBlocks(at, bytes);
                return;
            }

            var queued = new Queued(at, bytes.Length, buffer);
            if (!TryBegin(queued))
            {
                return;
            }

            Write(queued);
        }
        else
        {
            WriteBlocks(at, bytes);
        }

        while (Next() is { } next)
        {
            Write(next);
        }
    }

    // True if no thread is writing: then the caller must. If one is, it will write what is queued.
    private bool TryBegin(Queued? queued)
    {
        lock (_gate)
        {
            if (_isBusy && queued is not null)
            {
                _queue.Enqueue(queued);
            }

            return !_isBusy && (_isBusy = true);
        }
    }

    private Queued? Next()
    {
        lock (_gate)
        {
            _isBusy = _queue.TryDequeue(out var queued);
            return queued;
        }
    }

    private void Write(Queued queued)
    {
        WriteBlocks(queued.At, buffers.Bytes(queued.Buffer, queued.Length));
        buffers.Return(queued.Buffer);
    }

    private void WriteBlocks(long at, ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            var block = bytes[..(int)Math.Min(bytes.Length, BlockBytes - (at % BlockBytes))];
            RandomAccess.Write(handle, block, at);
            bytes = bytes[block.Length..];
            at += block.Length;
        }
    }

    private sealed record Queued(long At, int Length, int Buffer);
}
