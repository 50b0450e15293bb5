using UnslothMerge.Formats;
using UnslothMerge.Planning;

namespace UnslothMerge.Execution;

/// <summary>Writes the outputs of one tensor to their places in a shard.</summary>
/// <param name="Writer">The shard.</param>
/// <param name="Offsets">Where each output begins in it.</param>
internal sealed record ShardOutput(ShardWriter Writer, long[] Offsets) : IOutput
{
    /// <summary>The outputs of a tensor.</summary>
    public static ShardOutput Of(WriteTensor write, WriteShard shard, ShardWriter writer) =>
        new(writer, [.. write.Sink.Outputs.Select(o => shard.Layout.OffsetOf(o.Name))]);

    /// <inheritdoc/>
    public void Write(int output, long start, ReadOnlySpan<byte> bytes) => Writer.Write(Offsets[output] + start, bytes);
}
