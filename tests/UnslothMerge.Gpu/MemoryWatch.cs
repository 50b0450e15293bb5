using UnslothMerge.Devices;

namespace UnslothMerge.Gpu;

/// <summary>Watches how much of a device's memory is taken from now on, by everybody.</summary>
internal sealed class MemoryWatch : IDisposable
{
    private readonly IMergeDevice _device;
    private readonly long _before;
    private readonly Thread _thread;
    private long _least;
    private volatile bool _stopped;

    public MemoryWatch(IMergeDevice device)
    {
        _device = device;
        _least = _before = device.FreeBytes;
        _thread = new Thread(Watch) { IsBackground = true };
        _thread.Start();
    }

    /// <summary>Ends it.</summary>
    /// <returns>The most bytes that were taken.</returns>
    public long Stop()
    {
        _stopped = true;
        _thread.Join();
        return _before - _least;
    }

    /// <inheritdoc/>
    public void Dispose() => Stop();

    private void Watch()
    {
        while (!_stopped)
        {
            _least = Math.Min(_least, _device.FreeBytes);
            Thread.Sleep(2);
        }
    }
}
