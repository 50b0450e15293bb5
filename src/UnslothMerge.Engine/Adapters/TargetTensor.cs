using UnslothMerge.Formats;

namespace UnslothMerge.Adapters;

/// <summary>A tensor of the model in the making, as an adapter sees it.</summary>
/// <param name="Name">The name in the checkpoint.</param>
/// <param name="Shape">The shape that it will have.</param>
/// <param name="Source">Where its values come from before deltas are added.</param>
public sealed record TargetTensor(string Name, IReadOnlyList<long> Shape, TensorSource Source);

/// <summary>A tensor of the model that one expert has to itself.</summary>
/// <param name="Expert">The expert's number.</param>
/// <param name="Part">The module within the expert: <c>gate_proj</c>.</param>
/// <param name="Tensor">The tensor.</param>
public sealed record ExpertTarget(int Expert, string Part, TargetTensor Tensor);

/// <summary>A delta and the tensor that it changes.</summary>
/// <param name="Tensor">The tensor.</param>
/// <param name="Term">The delta.</param>
public sealed record TargetDelta(TargetTensor Tensor, DeltaTerm Term);
