using UnslothMerge.Planning;

namespace UnslothMerge.Execution;

/// <summary>One tensor that the cores work on.</summary>
/// <inheritdoc cref="TensorWork"/>
internal abstract class CoreJob(WriteTensor write, ShardOutput output, WriteShard shard, long pieces, long residentBytes)
    : TensorWork(write, output, shard, pieces, residentBytes)
{
    /// <summary>Does one piece.</summary>
    /// <param name="piece">Its number.</param>
    /// <param name="buffers">The worker's memory.</param>
    /// <param name="stop">Ends the wait for other workers' pieces.</param>
    /// <returns>The bytes written.</returns>
    public abstract long Run(int piece, WorkerBuffers buffers, CancellationToken stop);
}
