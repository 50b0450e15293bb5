namespace UnslothMerge.Gpu;

/// <summary>Watches how much of a device's memory is taken from now on, by everybody.</summary>
internal sealed class MemoryWatch : IDisposable
{
    private readonly long _before;
    private readonly Timer _timer;
    private long _least;

    public MemoryWatch(IMergeDevice device)
    {
        _least = _before = device.FreeBytes;
        _timer = new Timer(_ => Volatile.Write(ref _least, Math.Min(_least, device.FreeBytes)), null, 0, 2);
    }

    /// <summary>The most bytes that were taken at a time.</summary>
    public long Taken => _before - Volatile.Read(ref _least);

    public void Dispose() => _timer.Dispose();
}
