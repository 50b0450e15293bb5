using UnslothMerge.Adapters.Terms;
using UnslothMerge.Formats;

namespace UnslothMerge.Adapters;

/// <summary>A change of one tensor of the base.</summary>
/// <param name="Tensor">The tensor.</param>
/// <param name="Term">The change.</param>
/// <param name="View">The matrix that it needs, if not the usual one (see <see cref="MatrixView.Of"/>).</param>
internal sealed record TensorChange(TargetTensor Tensor, DeltaTerm Term, MatrixView? View = null);

/// <summary>What an adapter's tensors of one module change in the base, or why they do not fit it.</summary>
/// <param name="Changes">The changes, in the order in which they apply.</param>
internal sealed record ModuleChanges(params IReadOnlyList<TensorChange> Changes)
{
    /// <summary>The adapter's tensors that do not enter the merged model.</summary>
    public IReadOnlyList<StoredTensor> NotNeeded { get; init; } = [];

    /// <summary>What the caller should know of these changes.</summary>
    public string? Warning { get; init; }

    /// <summary>Why the tensors do not fit; then there are no changes.</summary>
    public MisfitException? Misfit { get; init; }
}

/// <summary>Thrown inside an <see cref="AdapterKind"/> where tensors do not fit together, or not the base; the kind returns it as
/// <see cref="ModuleChanges.Misfit"/>.</summary>
/// <param name="reason">Why; it is part of the plan's report.</param>
/// <param name="tensors">The tensors that it is reported for; none for all of the module.</param>
internal sealed class MisfitException(string reason, params IReadOnlyList<StoredTensor> tensors) : Exception(reason)
{
    /// <summary>The tensors that it is reported for; none for all of the module.</summary>
    public IReadOnlyList<StoredTensor> Tensors => tensors;
}
