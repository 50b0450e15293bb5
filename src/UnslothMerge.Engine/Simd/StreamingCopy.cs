using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace UnslothMerge.Simd;

/// <summary>
/// Copies bytes that this core will not read again: past its caches, where they would only displace what it works with, and without first reading
/// the memory that they go to.
/// </summary>
internal static class StreamingCopy
{
    /// <summary>Copies bytes.</summary>
    /// <param name="source">The bytes.</param>
    /// <param name="target">Where they go: on a cache line, as long as the source.</param>
    public static void Copy(ReadOnlySpan<byte> source, Span<byte> target)
    {
        ref var from = ref MemoryMarshal.GetReference(source);
        ref var to = ref MemoryMarshal.GetReference(target);
        var i = 0;
        unsafe
        {
            var p = (byte*)Unsafe.AsPointer(ref to);
            for (; i + 256 <= source.Length; i += 256)
            {
                var a = Vector512.LoadUnsafe(ref from, (nuint)i);
                var b = Vector512.LoadUnsafe(ref from, (nuint)i + 64);
                var c = Vector512.LoadUnsafe(ref from, (nuint)i + 128);
                var d = Vector512.LoadUnsafe(ref from, (nuint)i + 192);
                a.StoreAlignedNonTemporal(p + i);
                b.StoreAlignedNonTemporal(p + i + 64);
                c.StoreAlignedNonTemporal(p + i + 128);
                d.StoreAlignedNonTemporal(p + i + 192);
            }
        }

        source[i..].CopyTo(target[i..]);
    }
}
