using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters;

/// <summary>The tensors that an adapter stores for one module, of one kind.</summary>
/// <param name="Module">The module's name in the running model.</param>
/// <param name="Config">The adapter's config.</param>
/// <param name="Tensors">The stored tensors by part.</param>
/// <param name="Shared">The stored tensors that all modules share, by name without <c>base_model.</c></param>
public sealed record ModuleAdapter(string Module, AdapterConfig Config, IReadOnlyDictionary<string, StoredTensor> Tensors, IReadOnlyDictionary<string, StoredTensor> Shared)
{
    /// <summary>The number of modules that the adapter has tensors of this kind for.</summary>
    public int Modules { get; init; } = 1;

    /// <summary>The stored tensors by part and wrapper, the outermost wrapper first; more than one only for kinds that nest.</summary>
    public IReadOnlyList<IReadOnlyDictionary<string, StoredTensor>> Levels { get; init; } = [Tensors];

    /// <summary>A part's tensor, or null if the file has none.</summary>
    public StoredTensor? Find(string part) => Tensors.GetValueOrDefault(part);

    /// <summary>A tensor that all modules share, or null if the file has none (or several, of which none has that very name).</summary>
    public StoredTensor? FindShared(string name) => Shared.GetValueOrDefault(name) ?? (FindSharedList(name) is [var only] ? only : null);

    /// <summary>The tensors whose names are this one and more after a dot, numbers in their order.</summary>
    public IReadOnlyList<StoredTensor> FindSharedList(string name) =>
        [.. Shared.Where(t => t.Key.StartsWith(name + ".", StringComparison.Ordinal)).OrderBy(t => t.Key.Length).ThenBy(t => t.Key, StringComparer.Ordinal).Select(t => t.Value)];
}
