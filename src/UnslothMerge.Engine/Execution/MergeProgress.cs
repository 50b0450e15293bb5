namespace UnslothMerge.Execution;

/// <summary>How far a merge has come: bytes written of a total, and the tensor that was started last.</summary>
internal readonly record struct MergeProgress(long Written, long Total, string Tensor, string Shard);
