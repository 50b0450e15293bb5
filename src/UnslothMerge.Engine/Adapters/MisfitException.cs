namespace UnslothMerge.Adapters;

/// <summary>Thrown inside an <see cref="AdapterKind"/> where tensors do not fit together, or not the base; the kind returns it as
/// <see cref="ModuleChanges.Misfit"/>. The reason is part of the plan's report, for the tensors given; without any, for all of the
/// module.</summary>
internal sealed class MisfitException(string reason, params IReadOnlyList<StoredTensor> tensors) : Exception(reason)
{
    /// <summary>The tensors that it is reported for; none for all of the module.</summary>
    public IReadOnlyList<StoredTensor> Tensors => tensors;
}
