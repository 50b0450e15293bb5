using UnslothMerge.Devices;

namespace UnslothMerge.Execution;

/// <summary>What a save writes, and whether everything is flushed to the disk before the model gets its final name.</summary>
internal sealed record RunOptions(ExecutionPlan Plan, bool Sync)
{
    /// <summary>A device that takes some of the tensors; null if the cores do all the work.</summary>
    public DeviceRun? Device { get; init; }

    /// <summary>Where it is written.</summary>
    public IDisk Disk { get; init; } = SystemDisk.Instance;

    /// <summary>True to begin anew where an interrupted save could go on.</summary>
    public bool Restart { get; init; }

    /// <summary>True to compare inputs with the hashes that are known of them.</summary>
    public bool Verify { get; init; }

    /// <summary>Cancelled when the process is to end: the save stops, and leaves what is finished to the next.</summary>
    public CancellationToken Ending { get; init; }

    /// <summary>Takes each shard once it is written, on the caller's thread.</summary>
    public Action<FinishedShard> Finished { get; init; } = _ => { };

    /// <summary>Takes what the user should know: what becomes of an interrupted save.</summary>
    public Action<MergeWarning> Note { get; init; } = _ => { };
}
