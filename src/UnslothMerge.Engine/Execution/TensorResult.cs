namespace UnslothMerge.Execution;

/// <summary>The result of a tensor.</summary>
internal sealed record TensorResult(WriteTensor Written)
{
    public LogicalTensor Tensor => Written.Tensor;

    /// <summary>What was measured.</summary>
    public TensorFigures Figures { get; init; } = TensorFigures.None;

    /// <summary>The content of deferred tensors, in the order of the sink.</summary>
    public IReadOnlyList<byte[]> Deferred { get; init; } = [];
}

/// <summary>What is measured of a tensor while it is written: ‖Δ‖ / ‖W‖ if deltas were added, and ‖Q(W) − W‖ / ‖W‖ if the output is
/// quantized, both in the Frobenius norm; ⟨Q(W+Δ) − Q(W), Δ⟩ and ‖Δ‖², where both could be.</summary>
internal sealed record TensorFigures(double? RelativeChange, double? RelativeError, (double Kept, double Whole)? Survival = null)
{
    /// <summary>That of a tensor that is copied: most share it.</summary>
    public static TensorFigures None { get; } = new(null, null);

    public static TensorFigures Of(double? change, double? error) => change is null && error is null ? None : new(change, error);
}
