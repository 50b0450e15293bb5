using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters;

/// <summary>A change of one tensor of the base, with the matrix that it needs, if not the usual one (see
/// <see cref="MatrixView.Of"/>).</summary>
internal sealed record TensorChange(TargetTensor Tensor, DeltaTerm Term, MatrixView? View = null);

/// <summary>What an adapter's tensors of one module change in the base, in that order, or why they do not fit it.</summary>
internal sealed record ModuleChanges(params IReadOnlyList<TensorChange> Changes)
{
    /// <summary>The adapter's tensors that do not enter the merged model.</summary>
    public IReadOnlyList<StoredTensor> NotNeeded { get; init; } = [];

    /// <summary>What the caller should know of these changes.</summary>
    public MergeWarning? Warning { get; init; }

    /// <summary>Why the tensors do not fit; then there are no changes.</summary>
    public MisfitException? Misfit { get; init; }
}
