using Microsoft.Win32.SafeHandles;
using UnslothMerge.Formats;

namespace UnslothMerge.Execution;

/// <summary>Writes the outputs of one tensor to their places in a shard.</summary>
/// <param name="File">The shard.</param>
/// <param name="Offsets">Where each output begins in it.</param>
internal sealed record ShardOutput(SafeFileHandle File, long[] Offsets) : IOutput
{
    /// <inheritdoc/>
    public void Write(int output, long start, ReadOnlySpan<byte> bytes) => RandomAccess.Write(File, bytes, Offsets[output] + start);
}
