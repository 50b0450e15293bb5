namespace UnslothMerge.Execution;

/// <summary>The progress of a merge: bytes written of a total, and the tensor that was started last.</summary>
internal readonly record struct MergeProgress(long Written, long Total, string Tensor, string Shard);
