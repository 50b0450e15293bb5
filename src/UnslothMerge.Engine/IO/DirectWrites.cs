namespace UnslothMerge.IO;

/// <summary>Asynchronous writes that bypass the page cache, which needs a thread's time and memory for every byte. Both together are the
/// fastest. Only where the system has asynchronous direct writes.</summary>
internal sealed class DirectWrites : IDisposable
{
    /// <summary>The number of concurrent writes that saturates a disk.</summary>
    public const int Count = 4;

    /// <summary>Shorter writes are faster through the page cache.</summary>
    public const int LeastBytes = 128 * 1024;

    private readonly Lock _gate = new();
    private readonly nint _context;
    private readonly PieceBuffers _buffers;
    private readonly Pending?[] _pending = new Pending?[Count];

    private DirectWrites(nint context, PieceBuffers buffers) => (_context, _buffers) = (context, buffers);

    /// <summary>Direct writes begin and end at multiples of this, which every disk's block divides.</summary>
    public static int PageBytes { get; } = Math.Max(4096, Environment.SystemPageSize);

    /// <summary>The number of buffers of a length that are of use for such writes.</summary>
    public static int BuffersOf(int bytes) => bytes >= LeastBytes && LinuxAio.IsSupported ? Count : 0;

    /// <summary>Null where the system has no such writes, or they would be too short. The buffers hold the bytes until they are
    /// written.</summary>
    public static DirectWrites? Prepare(PieceBuffers buffers) =>
        BuffersOf(buffers.Length) > 0 && LinuxAio.Setup(Count) is { } context ? new DirectWrites(context, buffers) : null;

    /// <summary>Begins to write a copy of whole pages at a multiple of <see cref="PageBytes"/>; false if the disk is busy, the bytes are
    /// too few or too many, or the file must be written another way.</summary>
    public bool TryWrite(DirectFile file, long at, ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length < LeastBytes || !file.IsUsable || TryReserve() is not { } slot)
        {
            return false;
        }

        if (_buffers.TryCopy(bytes) is { } buffer)
        {
            _pending[slot] = new Pending(file, at, bytes.Length, buffer);
            if (LinuxAio.TryBeginWrite(_context, file.Direct, _buffers.Bytes(buffer, bytes.Length), at, slot))
            {
                return true;
            }

            _buffers.Return(buffer);
            file.IsUsable = false;
        }

        _pending[slot] = null;
        return false;
    }

    /// <summary>Waits for all writes.</summary>
    public void Wait()
    {
        lock (_gate)
        {
            while (Array.Exists(_pending, p => p is not null))
            {
                Complete(LinuxAio.Take(_context));
            }
        }
    }

    /// <summary>Waits for those of a file to which none is added any more.</summary>
    public void Drain(DirectFile file, CancellationToken stop)
    {
        while (!IsDone(file))
        {
            stop.ThrowIfCancellationRequested();
            Thread.Sleep(1);
        }
    }

    public void Dispose()
    {
        // The system reads the buffers until its writes are done, even after an error.
        try
        {
            while (Array.Exists(_pending, p => p is not null))
            {
                _pending[LinuxAio.Take(_context).Tag] = null;
            }
        }
        catch (IOException)
        {
            // This waits, too.
            LinuxAio.Destroy(_context);
            return;
        }

        // Takes some milliseconds, so it runs on another thread.
        ThreadPool.UnsafeQueueUserWorkItem(LinuxAio.Destroy, _context, preferLocal: false);
    }

    private int? TryReserve()
    {
        lock (_gate)
        {
            if (Array.TrueForAll(_pending, p => p is not null))
            {
                CompleteDone();
            }

            var slot = Array.FindIndex(_pending, p => p is null);
            if (slot < 0)
            {
                return null;
            }

            _pending[slot] = Pending.Reserved;
            return slot;
        }
    }

    private bool IsDone(DirectFile file)
    {
        lock (_gate)
        {
            CompleteDone();
            return !Array.Exists(_pending, p => p?.File == file);
        }
    }

    private void CompleteDone()
    {
        while (LinuxAio.TryTake(_context) is { } done)
        {
            Complete(done);
        }
    }

    // A direct write that the file system refuses is repeated through the page cache. One that failed on the disk is not: the page cache
    // would accept it without an error.
    private void Complete((int Tag, long Written) done)
    {
        var pending = _pending[done.Tag]!;
        _pending[done.Tag] = null;
        if (done.Written != pending.Length)
        {
            pending.File!.IsUsable = false;
            LinuxAio.ThrowIfFailed(done.Written);
            SystemDisk.Instance.Write(pending.File.Ordinary, _buffers.Bytes(pending.Buffer, pending.Length), pending.At);
        }

        _buffers.Return(pending.Buffer);
    }

    private sealed record Pending(DirectFile? File, long At, int Length, int Buffer)
    {
        public static Pending Reserved { get; } = new(null, 0, 0, 0);
    }
}

/// <summary>A file open for ordinary writes, and a second time for direct ones.</summary>
internal sealed class DirectFile(SafeFileHandle ordinary, SafeFileHandle direct) : IDisposable
{
    public SafeFileHandle Ordinary => ordinary;

    public SafeFileHandle Direct => direct;

    /// <summary>False once a direct write was refused.</summary>
    public bool IsUsable { get; set; } = true;

    /// <summary>Null if the file system has no direct writes.</summary>
    public static DirectFile? Open(SafeFileHandle file) => LinuxAio.OpenDirectly(file) is { } direct ? new DirectFile(file, direct) : null;

    public void Dispose() => direct.Dispose();
}
