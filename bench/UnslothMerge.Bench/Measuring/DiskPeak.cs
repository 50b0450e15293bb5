namespace UnslothMerge.Bench.Measuring;

/// <summary>Looks again and again how long the files of a directory are together, until it is disposed of.</summary>
internal sealed class DiskPeak : IDisposable
{
    private readonly Timer _timer;
    private long _bytes;

    public DiskPeak(string directory) => _timer = new Timer(_ => Look(directory), null, TimeSpan.Zero, TimeSpan.FromMilliseconds(100));

    /// <summary>The most so far.</summary>
    public long Bytes => Interlocked.Read(ref _bytes);

    public void Dispose() => _timer.Dispose();

    private void Look(string directory)
    {
        try
        {
            var files = new DirectoryInfo(directory).EnumerateFiles("*", SearchOption.AllDirectories);
            var bytes = files.Where(f => f.LinkTarget is null).Sum(f => f.Length);
            Interlocked.Exchange(ref _bytes, Math.Max(Bytes, bytes));
        }
        catch (IOException)
        {
            // A file went while it was looked at; the next look comes.
        }
    }
}
