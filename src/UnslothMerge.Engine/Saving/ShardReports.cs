using System.Collections.Concurrent;
using UnslothMerge.Execution;

namespace UnslothMerge.Saving;

/// <summary>Tells of finished shards where progress is reported, on the caller's thread: they are finished on another.</summary>
internal sealed class ShardReports(IProgress<MergeProgress>? progress, Action<FinishedShard> tell) : IProgress<MergeProgress>
{
    private readonly ConcurrentQueue<FinishedShard> _finished = [];

    /// <summary>Takes a shard, on any thread.</summary>
    public void Add(FinishedShard shard) => _finished.Enqueue(shard);

    /// <summary>Tells of those that have come since.</summary>
    public void Tell()
    {
        while (_finished.TryDequeue(out var shard))
        {
            tell(shard);
        }
    }

    public void Report(MergeProgress value)
    {
        Tell();
        progress?.Report(value);
    }
}
