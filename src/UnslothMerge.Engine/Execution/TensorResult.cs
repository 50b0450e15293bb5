using UnslothMerge.Planning;

namespace UnslothMerge.Execution;

/// <summary>The result of a tensor: ‖Δ‖ / ‖W‖ in the Frobenius norm, if deltas were added, and the content of deferred tensors, in the
/// order of the sink.</summary>
internal sealed record TensorResult(
    WriteTensor Written, TensorType Type, long Bytes, double? RelativeChange, IReadOnlyList<byte[]> Deferred)
{
    public LogicalTensor Tensor => Written.Tensor;

    /// <summary>‖Q(W) − W‖ / ‖W‖ in the Frobenius norm, where the output is quantized.</summary>
    public double? RelativeError { get; init; }

    /// <summary>⟨Q(W+Δ) − Q(W), Δ⟩ and ‖Δ‖², where the output is quantized and both were measured.</summary>
    public (double Kept, double Whole)? Survival { get; init; }
}
