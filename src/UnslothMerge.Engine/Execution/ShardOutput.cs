using UnslothMerge.Formats;
using UnslothMerge.Planning;

namespace UnslothMerge.Execution;

/// <summary>Writes the outputs of one tensor to their offsets in a shard.</summary>
internal sealed record ShardOutput(ShardWriter Writer, string Shard, long[] Offsets) : IOutput
{
    public static ShardOutput Of(WriteTensor write, WriteShard shard, ShardWriter writer) =>
        new(writer, shard.Name, [.. write.Sink.Outputs.Select(o => shard.Layout.OffsetOf(o.Name))]);

    public void Write(int output, long start, ReadOnlySpan<byte> bytes) => Writer.Write(Offsets[output] + start, bytes);
}
