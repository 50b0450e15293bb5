using System.Collections.Concurrent;
using UnslothMerge.IO;

namespace UnslothMerge.Execution;

/// <summary>A few buffers of one size, made when they are first needed.</summary>
/// <param name="count">How many there are at most.</param>
/// <param name="bytes">The length of each.</param>
internal sealed class SpareBuffers(int count, int bytes) : IDisposable
{
    private readonly ConcurrentBag<NativeBuffer> _free = [];
    private int _made;

    /// <summary>A buffer of at least a length, or null if none is free or so long.</summary>
    public NativeBuffer? TryTake(int length)
    {
        if (length > bytes)
        {
            return null;
        }

        if (_free.TryTake(out var buffer))
        {
            return buffer;
        }

        return Volatile.Read(ref _made) < count && Interlocked.Increment(ref _made) <= count ? new NativeBuffer(bytes) : null;
    }

    /// <summary>Gives a buffer back.</summary>
    public void Return(NativeBuffer buffer) => _free.Add(buffer);

    /// <summary>Frees the buffers that were given back.</summary>
    public void Dispose()
    {
        foreach (var buffer in _free)
        {
            buffer.Dispose();
        }
    }
}
