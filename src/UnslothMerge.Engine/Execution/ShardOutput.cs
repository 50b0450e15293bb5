using UnslothMerge.Formats;
using UnslothMerge.Planning;

namespace UnslothMerge.Execution;

/// <summary>Writes the outputs of one tensor to their places in a shard.</summary>
/// <param name="File">The shard.</param>
/// <param name="Offsets">Where each output begins in it.</param>
internal sealed record ShardOutput(ShardFile File, long[] Offsets) : IOutput
{
    /// <summary>The outputs of a tensor.</summary>
    public static ShardOutput Of(WriteTensor write, WriteShard shard, ShardFile file) => new(file, [.. write.Sink.Outputs.Select(o => shard.Layout.OffsetOf(o.Name))]);

    /// <inheritdoc/>
    public void Write(int output, long start, ReadOnlySpan<byte> bytes) => File.Write(Offsets[output] + start, bytes);
}
