using Microsoft.Win32.SafeHandles;

namespace UnslothMerge.IO;

/// <summary>
/// Writes that a disk does by itself, past the page cache, while threads go on. A page cache takes a thread's time and fresh memory for what it is
/// given, a disk neither: a model is written soonest both ways at once. Only where the system has asynchronous direct writes.
/// </summary>
internal sealed class DirectWrites : IDisposable
{
    /// <summary>As many as keep a disk busy: while so many are under way, there is no room for another.</summary>
    public const int Count = 4;

    /// <summary>Shorter writes cost more than they save.</summary>
    public const int LeastBytes = 128 * 1024;

    private readonly Lock _gate = new();
    private readonly nint _context;
    private readonly int _bytes;
    private readonly NativeBuffer _buffer;
    private readonly Pending?[] _pending = new Pending?[Count];
    private readonly List<DirectFile> _files = [];

    private DirectWrites(nint context, int bytes)
    {
        (_context, _bytes) = (context, bytes);
        _buffer = LinuxAio.Allocate(MemoryFor(bytes));
    }

    /// <summary>Where direct writes begin and end: at multiples of this, which no disk and no page cache divides.</summary>
    public static int PageBytes { get; } = Math.Max(4096, Environment.SystemPageSize);

    /// <summary>The memory that writes of a length are done from, in bytes.</summary>
    public static long MemoryFor(int bytes) => bytes < LeastBytes ? 0 : LinuxAio.Allocated((long)Count * bytes);

    /// <summary>Gets ready to write.</summary>
    /// <param name="bytes">The most bytes of one write, a power of two: there is room for <see cref="Count"/> at a time.</param>
    /// <returns>Null where the system has no such writes, or they would be too short.</returns>
    public static DirectWrites? Prepare(int bytes) => bytes >= LeastBytes && LinuxAio.Setup(Count) is { } context ? new DirectWrites(context, bytes) : null;

    /// <summary>Gets ready to write to a file.</summary>
    /// <param name="file">The file, open for ordinary writes, to which goes what cannot be written directly. It stays open as long as this.</param>
    /// <returns>Null if its file system has no direct writes.</returns>
    public DirectFile? Open(SafeFileHandle file)
    {
        var direct = LinuxAio.OpenDirectly(file);
        if (direct is null)
        {
            return null;
        }

        _files.Add(new DirectFile(file, direct));
        return _files[^1];
    }

    /// <summary>Begins to write a copy of some bytes.</summary>
    /// <param name="file">The file.</param>
    /// <param name="at">Where they go: a multiple of <see cref="PageBytes"/>.</param>
    /// <param name="bytes">The bytes: whole pages.</param>
    /// <returns>False if there is no room, they are too few or too many, or the file is better written to otherwise.</returns>
    /// <exception cref="IOException">An earlier write failed.</exception>
    public bool TryWrite(DirectFile file, long at, ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length < LeastBytes || bytes.Length > _bytes || !file.IsUsable || TryReserve(new Pending(file, at, bytes.Length)) is not { } slot)
        {
            return false;
        }

        var copy = BytesOf(slot, bytes.Length);
        StreamingCopy.Copy(bytes, copy);
        if (LinuxAio.TryBeginWrite(_context, file.Direct, copy, at, slot))
        {
            return true;
        }

        _pending[slot] = null;
        file.IsUsable = false;
        return false;
    }

    /// <summary>Waits until all is written that was begun.</summary>
    /// <exception cref="IOException">A write failed.</exception>
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

    /// <inheritdoc/>
    public void Dispose()
    {
        // The system uses the memory until then, whatever went wrong meanwhile.
        while (Array.Exists(_pending, p => p is not null))
        {
            _pending[LinuxAio.Take(_context).Tag] = null;
        }

        _files.ForEach(f => f.Direct.Dispose());
        _buffer.Dispose();

        // This takes the system a while, for which nobody has to wait.
        ThreadPool.UnsafeQueueUserWorkItem(LinuxAio.Destroy, _context, preferLocal: false);
    }

    private Span<byte> BytesOf(int slot, int length) => _buffer.Bytes.Slice(slot * _bytes, length);

    private int? TryReserve(Pending pending)
    {
        lock (_gate)
        {
            if (!Array.Exists(_pending, p => p is null))
            {
                TakeDone();
            }

            var slot = Array.FindIndex(_pending, p => p is null);
            if (slot < 0)
            {
                return null;
            }

            _pending[slot] = pending;
            return slot;
        }
    }

    private void TakeDone()
    {
        while (LinuxAio.TryTake(_context) is { } done)
        {
            Complete(done);
        }
    }

    // What a file system does not want to write directly is written as usual. What the disk could not write must not be: a page cache takes it and
    // tells nobody.
    private void Complete((int Tag, long Written) done)
    {
        var pending = _pending[done.Tag]!;
        _pending[done.Tag] = null;
        if (done.Written != pending.Length)
        {
            pending.File.IsUsable = false;
            LinuxAio.ThrowIfFailed(done.Written);
            RandomAccess.Write(pending.File.Ordinary, BytesOf(done.Tag, pending.Length), pending.At);
        }
    }

    /// <summary>A file to which some writes go directly.</summary>
    /// <param name="ordinary">The file, open for ordinary writes.</param>
    /// <param name="direct">The file, open for direct ones.</param>
    public sealed class DirectFile(SafeFileHandle ordinary, SafeFileHandle direct)
    {
        /// <summary>The file, open for ordinary writes.</summary>
        public SafeFileHandle Ordinary => ordinary;

        /// <summary>The file, open for direct writes.</summary>
        public SafeFileHandle Direct => direct;

        /// <summary>False once a write failed.</summary>
        public bool IsUsable { get; set; } = true;
    }

    /// <summary>A write under way.</summary>
    private sealed record Pending(DirectFile File, long At, int Length);
}
