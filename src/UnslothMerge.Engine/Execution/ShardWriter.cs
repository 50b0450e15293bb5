namespace UnslothMerge.Execution;

/// <summary>Writes a shard. Linux serializes the writes to a file, and threads wait, often in a busy loop. Here a thread that finds another
/// one writing queues a copy of its bytes for that thread and continues. Whole pages bypass the page cache while the disk is fast enough.
/// Without a free buffer threads wait for each other.</summary>
internal sealed class ShardWriter(IDisk disk, SafeFileHandle handle, PieceBuffers buffers, DirectWrites? direct) : IDisposable
{
    // The size in which cp writes. Larger blocks are faster while the page cache finds contiguous memory; with little or fragmented
    // memory a write then takes three times as long.
    private const int BlockBytes = 64 * 1024;

    private readonly Lock _gate = new();
    private readonly Queue<Queued> _queue = new();
    private readonly DirectFile? _direct = direct is null ? null : DirectFile.Open(handle);
    private bool _isBusy;

    /// <summary>Writes bytes at an offset, or queues them. All are written once no thread is in this method and direct writes have
    /// ended.</summary>
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

    /// <summary>Starts writing the bytes from the page cache to the disk.</summary>
    public void BeginFlush() => disk.BeginFlush(handle);

    /// <summary>Waits until all is written that threads which have left <see cref="Write"/> brought.</summary>
    public void Drain(CancellationToken stop)
    {
        while (IsBusy)
        {
            stop.ThrowIfCancellationRequested();
            Thread.Sleep(1);
        }

        if (_direct is not null)
        {
            direct!.Drain(_direct, stop);
        }
    }

    public void Dispose() => _direct?.Dispose();

    private bool IsBusy
    {
        get
        {
            lock (_gate)
            {
                return _isBusy;
            }
        }
    }

    private void WriteOrQueue(long at, ReadOnlySpan<byte> bytes)
    {
        if (bytes.IsEmpty)
        {
            return;
        }

        if (!TryBegin(null))
        {
            // Without a buffer both threads write.
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

    // True if no thread is writing: then the caller must write. Otherwise the writing thread takes what is queued.
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
            disk.Write(handle, block, at);
            bytes = bytes[block.Length..];
            at += block.Length;
        }
    }

    private sealed record Queued(long At, int Length, int Buffer);
}
