using System.Collections.Concurrent;
using System.Runtime.Intrinsics;

namespace UnslothMerge.IO;

/// <summary>Buffers of one size, in one block of memory, for bytes that are written while the worker continues. In large pages where the
/// system has them: starting a direct write takes time for every page.</summary>
internal sealed unsafe class PieceBuffers : IDisposable
{
    private const int LargePage = 2 * 1024 * 1024;

    private readonly NativeBuffer _memory;
    private readonly ConcurrentBag<int> _free;

    public PieceBuffers(int count, int bytes)
    {
        Length = bytes;
        _free = [.. Enumerable.Range(0, count)];
        _memory = new NativeBuffer(MemoryFor(count, bytes), LargePage);
        if (OperatingSystem.IsLinux())
        {
            fixed (byte* start = _memory.Bytes)
            {
                _ = SystemCalls.Advise(start, (nuint)_memory.Length, SystemCalls.UseLargePages);
            }
        }
    }

    /// <summary>The length of each buffer in bytes.</summary>
    public int Length { get; }

    /// <summary>The bytes that buffers take together.</summary>
    public static long MemoryFor(int count, int bytes) => ((count * CacheLine.Align(bytes)) + LargePage - 1) & -LargePage;

    /// <summary>Copies bytes to the beginning of a free buffer and gives its number; null if none is free or so long.</summary>
    public int? TryCopy(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length > Length || !_free.TryTake(out var number))
        {
            return null;
        }

        CopyPastCaches(bytes, Bytes(number, bytes.Length));
        return number;
    }

    /// <summary>The first bytes of a buffer.</summary>
    public Span<byte> Bytes(int number, int length) => _memory.Bytes.Slice((int)(number * CacheLine.Align(Length)), length);

    public void Return(int number) => _free.Add(number);

    public void Dispose() => _memory.Dispose();

    // Where this core has no more use for the copy, it would only take the place of what is worked with; and nothing reads the memory
    // that it replaces. Buffers begin on cache lines.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void CopyPastCaches(ReadOnlySpan<byte> source, Span<byte> target)
    {
        int whole = source.Length & -CacheLine.Size;
        fixed (byte* from = source)
        fixed (byte* to = target)
        {
            for (int i = 0; i < whole; i += CacheLine.Size)
            {
                Vector512.Load(from + i).StoreAlignedNonTemporal(to + i);
            }
        }

        source[whole..].CopyTo(target[whole..]);

        // Only a fence puts such stores before what other threads and devices learn next.
        Interlocked.MemoryBarrier();
    }
}
