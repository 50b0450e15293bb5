namespace UnslothMerge.Hub.Fetching;

/// <summary>A file while it is downloaded, in segments side by side. How far each has come is written beside it after its bytes, so that
/// a download that was killed goes on where it was. A loss of power may leave the two in disagreement, which the hash shows.</summary>
internal sealed class PartialFile : IDisposable
{
    /// <summary>The bytes of a segment: long enough for a connection to reach its speed.</summary>
    public const int UsualSegmentBytes = 32 * 1024 * 1024;

    private readonly IDisk _disk;
    private readonly string _path;
    private readonly long _length;
    private readonly SafeFileHandle _data;
    private readonly SafeFileHandle _progress;
    private readonly int[] _done;

    private PartialFile(IDisk disk, string path, long length, int segmentBytes)
    {
        (_disk, _path, _length, SegmentBytes) = (disk, path, length, segmentBytes);
        _data = disk.OpenOrCreate(path);
        _progress = disk.OpenOrCreate(ProgressOf(path));
        _done = new int[(length + SegmentBytes - 1) / SegmentBytes];
    }

    /// <summary>Opens a file that is not whole yet, or begins one. The caller holds the lock of its content.</summary>
    public static PartialFile Open(IDisk disk, string path, long length, int segmentBytes)
    {
        var file = new PartialFile(disk, path, length, segmentBytes);
        var bytes = MemoryMarshal.AsBytes(file._done.AsSpan());
        if (RandomAccess.GetLength(file._data) != length || RandomAccess.GetLength(file._progress) != bytes.Length
            || !file._progress.ReadFully(bytes, 0, disk)
            || !Enumerable.Range(0, file.Segments).All(s => file._done[s] >= 0 && file.Left(s) >= 0))
        {
            file.Restart();
        }

        return file;
    }

    /// <summary>The bytes of a segment, but for the last.</summary>
    public int SegmentBytes { get; }

    /// <summary>The number of segments.</summary>
    public int Segments => _done.Length;

    /// <summary>The bytes that are there.</summary>
    public long Done => _done.Sum(d => (long)Volatile.Read(ref d));

    /// <summary>The place of a segment's next byte.</summary>
    public long Offset(int segment) => ((long)segment * SegmentBytes) + _done[segment];

    /// <summary>The bytes that a segment lacks.</summary>
    public long Left(int segment) => Math.Min(SegmentBytes, _length - ((long)segment * SegmentBytes)) - _done[segment];

    /// <summary>Appends to a segment. A segment has one writer at a time.</summary>
    public void Write(int segment, ReadOnlySpan<byte> bytes)
    {
        _disk.Write(_data, bytes, Offset(segment));
        _done[segment] += bytes.Length;
        Span<byte> number = stackalloc byte[sizeof(int)];
        MemoryMarshal.Write(number, _done[segment]);
        _disk.Write(_progress, number, (long)segment * sizeof(int));
    }

    /// <summary>Reads what is there.</summary>
    public void Read(long offset, Span<byte> bytes)
    {
        if (!_data.ReadFully(bytes, offset, _disk))
        {
            throw new IOException($"'{_path}' became shorter while it was downloaded.");
        }
    }

    /// <summary>Forgets what is there.</summary>
    public void Restart()
    {
        Array.Clear(_done);
        _disk.SetLength(_progress, 0);
        _disk.Write(_progress, MemoryMarshal.AsBytes(_done.AsSpan()), 0);
        _disk.SetLength(_data, _length);
    }

    /// <summary>Closes the file, whose bytes are on the disk then: a name in the cache is trusted.</summary>
    public void Close()
    {
        Dispose();
        _disk.Flush(_path);
    }

    /// <summary>Removes what is written beside the file, which has been taken away.</summary>
    public void Forget() => _disk.DeleteFile(ProgressOf(_path));

    public void Dispose()
    {
        _data.Dispose();
        _progress.Dispose();
    }

    private static string ProgressOf(string path) => $"{path}.progress";
}
