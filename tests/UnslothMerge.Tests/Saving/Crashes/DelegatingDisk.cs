namespace UnslothMerge.Tests.Saving.Crashes;

/// <summary>A disk whose every call can be watched, or fail. It never flushes for real: what is tested does not lose power.</summary>
internal abstract class DelegatingDisk : IDisk
{
    public bool AllowsDirectWrites { get; init; }

    /// <summary>True if directories can exchange their names, as on Linux.</summary>
    public bool Exchanges { get; init; } = true;

    /// <summary>The end of the names of files that can be clones; null if none can. Where the system has none, a copy is taken for
    /// one.</summary>
    public string? Clones { get; init; }

    /// <summary>A directory that is the root of a file system.</summary>
    public string? MountPoint { get; init; }

    public bool IsMountPoint(string path) => path == MountPoint;

    public SafeFileHandle Open(string path)
    {
        Before(new DiskCall.Open(path));
        var handle = SystemDisk.Instance.Open(path);
        Opened(handle, path);
        return handle;
    }

    public virtual int Read(SafeFileHandle file, Span<byte> bytes, long at)
    {
        Before(new DiskCall.Read(PathOf(file), at));
        return SystemDisk.Instance.Read(file, bytes, at);
    }

    public virtual SafeFileHandle Create(string path, long preallocated = 0)
    {
        Before(new DiskCall.Create(path));
        var handle = SystemDisk.Instance.Create(path);
        Opened(handle, path);
        return handle;
    }

    public SafeFileHandle OpenOrCreate(string path)
    {
        Before(new DiskCall.Create(path));
        var handle = SystemDisk.Instance.OpenOrCreate(path);
        Opened(handle, path);
        return handle;
    }

    public SafeFileHandle? TryClone(string source, string path, out string? obstacle)
    {
        if (Clones is null || !path.EndsWith(Clones, StringComparison.Ordinal))
        {
            obstacle = "this disk has no clones";
            return null;
        }

        Before(new DiskCall.CloneFile(source, path));
        var handle = SystemDisk.Instance.TryClone(source, path, out obstacle) ?? Copied(source, path);
        Opened(handle, path);
        obstacle = null;
        return handle;
    }

    public void SetLength(SafeFileHandle file, long length)
    {
        Before(new DiskCall.SetLength(PathOf(file), length));
        SystemDisk.Instance.SetLength(file, length);
    }

    public void Write(SafeFileHandle file, ReadOnlySpan<byte> bytes, long at)
    {
        Before(new DiskCall.Write(PathOf(file), bytes.ToArray(), at));
        SystemDisk.Instance.Write(file, bytes, at);
    }

    public void Close(SafeFileHandle file)
    {
        Before(new DiskCall.Close(PathOf(file)));
        SystemDisk.Instance.Close(file);
    }

    public void BeginFlush(SafeFileHandle file)
    {
    }

    public void Flush(string path) => Before(new DiskCall.Flush(path));

    public void FlushDirectory(string path) => Before(new DiskCall.FlushDirectory(path));

    public void CreateDirectory(string path)
    {
        Before(new DiskCall.CreateDirectory(path));
        SystemDisk.Instance.CreateDirectory(path);
    }

    public void Move(string from, string to)
    {
        Before(new DiskCall.Move(from, to));
        SystemDisk.Instance.Move(from, to);
    }

    public bool TryExchange(string one, string other)
    {
        if (!Exchanges)
        {
            return false;
        }

        Before(new DiskCall.Exchange(one, other));
        return SystemDisk.Instance.TryExchange(one, other);
    }

    public void DeleteFile(string path)
    {
        Before(new DiskCall.Delete(path));
        SystemDisk.Instance.DeleteFile(path);
    }

    public void DeleteDirectory(string path)
    {
        Before(new DiskCall.Delete(path));
        SystemDisk.Instance.DeleteDirectory(path);
    }

    /// <summary>Sees a call before it is made; it fails if this throws.</summary>
    protected abstract void Before(DiskCall call);

    private static SafeFileHandle Copied(string source, string path)
    {
        File.Copy(source, path);
        return File.OpenHandle(path, FileMode.Open, FileAccess.Write, FileShare.Read);
    }

    private readonly System.Collections.Concurrent.ConcurrentDictionary<SafeFileHandle, string> _paths = [];

    private void Opened(SafeFileHandle handle, string path) => _paths[handle] = path;

    private string PathOf(SafeFileHandle handle) => _paths[handle];
}

/// <summary>A disk that does all it is asked for.</summary>
internal sealed class QuickDisk : DelegatingDisk
{
    protected override void Before(DiskCall call)
    {
    }
}

/// <summary>A disk whose Nth call fails.</summary>
internal sealed class FailingDisk(int call, Func<DiskCall, Exception> error, bool forEver) : DelegatingDisk
{
    private readonly System.Collections.Concurrent.ConcurrentQueue<DiskCall> _failed = [];
    private int _calls;

    /// <summary>The calls that failed, if the save came so far. Threads that fail together may report any of them.</summary>
    public IReadOnlyCollection<DiskCall> Failed => _failed;

    /// <summary>A disk that is gone after so many calls.</summary>
    public static FailingDisk After(int calls) => new(calls + 1, _ => new IOException("The disk is gone."), forEver: true);

    protected override void Before(DiskCall made)
    {
        var number = Interlocked.Increment(ref _calls);
        if (number == call || (forEver && number > call))
        {
            _failed.Enqueue(made);
            throw error(made);
        }
    }
}

/// <summary>A disk that keeps every call that changes something, in order.</summary>
internal sealed class RecordingDisk : DelegatingDisk
{
    private readonly List<DiskCall> _calls = [];

    public IReadOnlyList<DiskCall> Calls => _calls;

    protected override void Before(DiskCall call)
    {
        if (call is not (DiskCall.Open or DiskCall.Read or DiskCall.Close))
        {
            lock (_calls)
            {
                _calls.Add(call);
            }
        }
    }
}

/// <summary>A call of a disk.</summary>
internal abstract record DiskCall
{
    public sealed record Open(string Path) : DiskCall;

    public sealed record Read(string Path, long At) : DiskCall;

    public sealed record Create(string Path) : DiskCall;

    public sealed record CloneFile(string Source, string Path) : DiskCall;

    public sealed record SetLength(string Path, long Length) : DiskCall;

    public sealed record Write(string Path, byte[] Bytes, long At) : DiskCall;

    public sealed record Close(string Path) : DiskCall;

    public sealed record Flush(string Path) : DiskCall;

    public sealed record FlushDirectory(string Path) : DiskCall;

    public sealed record CreateDirectory(string Path) : DiskCall;

    public sealed record Move(string From, string To) : DiskCall;

    public sealed record Exchange(string One, string Other) : DiskCall;

    public sealed record Delete(string Path) : DiskCall;
}
