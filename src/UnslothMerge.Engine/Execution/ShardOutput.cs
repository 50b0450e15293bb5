using Microsoft.Win32.SafeHandles;
using UnslothMerge.Formats;
using UnslothMerge.Planning;

namespace UnslothMerge.Execution;

/// <summary>Writes the outputs of one tensor to their places in a shard.</summary>
/// <param name="File">The shard.</param>
/// <param name="Offsets">Where each output begins in it.</param>
internal sealed record ShardOutput(SafeFileHandle File, long[] Offsets) : IOutput
{
    // A page cache puts the whole of such a block into one piece of memory, and is done sooner. Larger ones cost it less still, while it finds pieces of
    // that size; where memory is used up or in fragments it does not, and a write takes three times as long. This is the size in which cp writes.
    private const int BlockBytes = 64 * 1024;

    /// <summary>The outputs of a tensor.</summary>
    public static ShardOutput Of(WriteTensor write, WriteShard shard, SafeFileHandle file) => new(file, [.. write.Sink.Outputs.Select(o => shard.Layout.OffsetOf(o.Name))]);

    /// <inheritdoc/>
    public void Write(int output, long start, ReadOnlySpan<byte> bytes)
    {
        for (var at = Offsets[output] + start; !bytes.IsEmpty;)
        {
            var block = bytes[..(int)Math.Min(bytes.Length, BlockBytes - (at % BlockBytes))];
            RandomAccess.Write(File, block, at);
            bytes = bytes[block.Length..];
            at += block.Length;
        }
    }
}
