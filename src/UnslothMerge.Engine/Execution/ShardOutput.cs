namespace UnslothMerge.Execution;

/// <summary>Writes the outputs of one tensor to their offsets in a shard.</summary>
internal sealed record ShardOutput(ShardWriter Writer, ShardFile File, long[] Offsets) : IOutput
{
    public void Write(int output, long start, ReadOnlySpan<byte> bytes)
    {
        File.Checksum?.Add(Offsets[output] + start, bytes);
        Writer.Write(Offsets[output] + start, bytes);
    }
}
