namespace UnslothMerge.Execution;

/// <summary>The progress of a merge: bytes written of a total, and the tensor that was started last. Tensors that are surveyed before they
/// are written count by the bytes that they will have.</summary>
internal readonly record struct MergeProgress(long Written, long Total, string Tensor, string Shard)
{
    public long Surveyed { get; init; }

    public long ToSurvey { get; init; }
}
