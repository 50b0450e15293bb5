using Microsoft.Win32.SafeHandles;
using UnslothMerge.Files;

namespace UnslothMerge.Bench.Measuring;

/// <summary>A disk that one worker writes to at so many bytes per second, as if it had a line of its own.</summary>
internal sealed class SlowDisk(double rate) : IDisk
{
    private readonly Lock _gate = new();
    private long _free;

    public bool AllowsDirectWrites => false;

    private static SystemDisk Disk => SystemDisk.Instance;

    public bool IsMountPoint(string path) => Disk.IsMountPoint(path);

    public SafeFileHandle Open(string path) => Disk.Open(path);

    public int Read(SafeFileHandle file, Span<byte> bytes, long at) => Disk.Read(file, bytes, at);

    public SafeFileHandle Create(string path, long preallocated = 0) => Disk.Create(path, preallocated);

    public SafeFileHandle OpenOrCreate(string path) => Disk.OpenOrCreate(path);

    public SafeFileHandle? TryClone(string source, string path, out string? obstacle)
    {
        obstacle = "a slow disk has no clones";
        return null;
    }

    public void SetLength(SafeFileHandle file, long length) => Disk.SetLength(file, length);

    public void Write(SafeFileHandle file, ReadOnlySpan<byte> bytes, long at)
    {
        Disk.Write(file, bytes, at);
        TimeSpan wait;
        lock (_gate)
        {
            _free = Math.Max(_free, Stopwatch.GetTimestamp()) + (long)(bytes.Length / rate * Stopwatch.Frequency);
            wait = Stopwatch.GetElapsedTime(Stopwatch.GetTimestamp(), _free);
        }

        Thread.Sleep(wait > TimeSpan.Zero ? wait : TimeSpan.Zero);
    }

    public void Close(SafeFileHandle file) => Disk.Close(file);

    public void BeginFlush(SafeFileHandle file)
    {
    }

    public void Flush(string path) => Disk.Flush(path);

    public void FlushDirectory(string path) => Disk.FlushDirectory(path);

    public void CreateDirectory(string path) => Disk.CreateDirectory(path);

    public void Move(string from, string to) => Disk.Move(from, to);

    public bool TryExchange(string one, string other) => Disk.TryExchange(one, other);

    public void DeleteFile(string path) => Disk.DeleteFile(path);

    public void DeleteDirectory(string path) => Disk.DeleteDirectory(path);
}
