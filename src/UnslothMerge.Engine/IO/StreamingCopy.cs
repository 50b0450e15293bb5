using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace UnslothMerge.IO;

/// <summary>
/// Copies what this core has no more use for: past its caches, where it would only take the place of what is worked with, and without reading the
/// memory first that it goes to.
/// </summary>
internal static class StreamingCopy
{
    private const int Step = 4 * CacheLine.Size;

    /// <summary>Copies bytes.</summary>
    /// <param name="source">The bytes.</param>
    /// <param name="target">Where they go: at least as long, outside the garbage collector's heap, and beginning on a cache line.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static unsafe void Copy(ReadOnlySpan<byte> source, Span<byte> target)
    {
        var whole = source.Length & -Step;
        fixed (byte* from = source)
        fixed (byte* to = target[..source.Length])
        {
            for (var i = 0; i < whole; i += Step)
            {
                var first = Vector512.Load(from + i);
                var second = Vector512.Load(from + i + CacheLine.Size);
                var third = Vector512.Load(from + i + (2 * CacheLine.Size));
                var fourth = Vector512.Load(from + i + (3 * CacheLine.Size));
                first.StoreAlignedNonTemporal(to + i);
                second.StoreAlignedNonTemporal(to + i + CacheLine.Size);
                third.StoreAlignedNonTemporal(to + i + (2 * CacheLine.Size));
                fourth.StoreAlignedNonTemporal(to + i + (3 * CacheLine.Size));
            }
        }

        source[whole..].CopyTo(target[whole..]);

        // Only a fence puts such stores before what other threads and devices are told next.
        Interlocked.MemoryBarrier();
    }
}
