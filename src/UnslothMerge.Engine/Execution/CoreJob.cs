using UnslothMerge.Planning;

namespace UnslothMerge.Execution;

/// <summary>One tensor that the cores work on.</summary>
/// <inheritdoc cref="TensorWork"/>
internal abstract class CoreJob(WriteTensor write, ShardOutput output, WriteShard shard, long pieces, long residentBytes)
    : TensorWork(write, output, shard, pieces, residentBytes)
{
    /// <summary>Does one piece; gives the bytes written. <paramref name="stop"/> ends the wait for other workers' pieces.</summary>
    public abstract long Run(int piece, WorkerBuffers buffers, CancellationToken stop);
}
