using UnslothMerge.Execution;

namespace UnslothMerge.Saving;

/// <summary>The progress of some shards of a plan: the rest, which counts as written, is left out.</summary>
internal sealed class PartialProgress(IProgress<MergeProgress> progress, long rest, long bytes) : IProgress<MergeProgress>
{
    public void Report(MergeProgress value) => progress.Report(value with { Written = value.Written - rest, Total = bytes });
}
