namespace UnslothMerge.Execution;

/// <summary>A tensor that the cores copy or merge.</summary>
internal abstract class CoreJob(WriteTensor write, OpenShard shard, long pieces, long residentBytes)
    : TensorJob(write, shard, pieces, residentBytes)
{
    /// <summary>Processes a piece; returns the bytes written. <paramref name="stop"/> ends the wait for other workers' pieces.</summary>
    public abstract long Run(int piece, WorkerBuffers buffers, CancellationToken stop);
}
