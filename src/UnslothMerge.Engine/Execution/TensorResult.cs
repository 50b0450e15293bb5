using UnslothMerge.Planning;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Execution;

/// <summary>What became of a tensor.</summary>
/// <param name="Tensor">The tensor.</param>
/// <param name="Type">The dtype that it was written in.</param>
/// <param name="Bytes">The bytes written.</param>
/// <param name="RelativeChange">‖Δ‖ / ‖W‖ in the Frobenius norm, where deltas were added.</param>
public sealed record TensorResult(LogicalTensor Tensor, TensorType Type, long Bytes, double? RelativeChange);
