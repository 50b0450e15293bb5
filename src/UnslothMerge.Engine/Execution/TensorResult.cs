using UnslothMerge.Planning;

namespace UnslothMerge.Execution;

/// <summary>What became of a tensor.</summary>
/// <param name="Written">The tensor and how it is stored.</param>
/// <param name="Type">The dtype that it was written in.</param>
/// <param name="Bytes">The bytes written.</param>
/// <param name="RelativeChange">‖Δ‖ / ‖W‖ in the Frobenius norm, where deltas were added.</param>
/// <param name="Deferred">The content of stored tensors that depends on the data, in the order of the sink.</param>
internal sealed record TensorResult(
    WriteTensor Written, TensorType Type, long Bytes, double? RelativeChange, IReadOnlyList<byte[]> Deferred)
{
    /// <summary>The tensor.</summary>
    public LogicalTensor Tensor => Written.Tensor;

    /// <summary>‖Q(W) − W‖ / ‖W‖ in the Frobenius norm, where the output is quantized.</summary>
    public double? RelativeError { get; init; }
}
