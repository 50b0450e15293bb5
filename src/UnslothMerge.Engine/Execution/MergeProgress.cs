namespace UnslothMerge.Execution;

/// <summary>How far a merge has come.</summary>
/// <param name="Written">The bytes written so far.</param>
/// <param name="Total">The bytes to write.</param>
/// <param name="Tensor">The tensor that was taken up last.</param>
/// <param name="Shard">The shard that it belongs to.</param>
internal readonly record struct MergeProgress(long Written, long Total, string Tensor, string Shard);
