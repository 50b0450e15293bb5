using UnslothMerge.Formats;
using UnslothMerge.Models;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters;

/// <summary>
/// A kind of adapter: which tensors it stores for a module, and what they change. A kind is one file in <c>Adapters/Kinds</c> and one row in
/// <see cref="AdapterKinds"/>.
/// </summary>
public abstract class AdapterKind
{
    /// <summary>The kind's usual name: LoRA …</summary>
    public abstract string Name { get; }

    /// <summary>The <c>peft_type</c> of the adapters that store it.</summary>
    public abstract string PeftType { get; }

    /// <summary>The tensors of one module, without the module's name: <c>lora_A.weight</c> …</summary>
    public abstract IReadOnlyList<string> Parts { get; }

    /// <summary>Says what the tensors of one module change.</summary>
    /// <returns>False if the base has no parameter of that module that this kind could change; then the next row of the table is asked.</returns>
    public abstract bool Bind(ModuleAdapter module, IAdapterTarget target);
}

/// <summary>The tensors that an adapter stores for one module, of one kind.</summary>
/// <param name="Module">The module's name in the running model.</param>
/// <param name="Config">The adapter's config.</param>
/// <param name="Tensors">The stored tensors by part.</param>
public sealed record ModuleAdapter(string Module, AdapterConfig Config, IReadOnlyDictionary<string, StoredTensor> Tensors)
{
    /// <summary>A part's tensor, or null if the file has none.</summary>
    public StoredTensor? Find(string part) => Tensors.GetValueOrDefault(part);
}

/// <summary>A tensor of the model in the making, as an adapter sees it.</summary>
/// <param name="Name">The name in the checkpoint.</param>
/// <param name="Shape">The shape that it will have.</param>
public sealed record TargetTensor(string Name, IReadOnlyList<long> Shape);

/// <summary>The plan in the making, as an adapter kind sees it. Every tensor of the adapter is claimed once or reported as a problem.</summary>
public interface IAdapterTarget
{
    /// <summary>Finds a parameter of a module; null if the base has none.</summary>
    TargetTensor? Find(string module, string parameter);

    /// <summary>Adds a delta to a tensor; this claims the delta's inputs.</summary>
    /// <param name="tensor">The tensor.</param>
    /// <param name="module">The adapter's module, for the report.</param>
    /// <param name="term">The delta.</param>
    /// <param name="view">The matrix that the delta needs, if not the usual one (see <see cref="MatrixView.Of"/>).</param>
    void Add(TargetTensor tensor, string module, DeltaTerm term, MatrixView? view = null);

    /// <summary>How the model's modules store their weights.</summary>
    LayerTypes Layers { get; }

    /// <summary>Claims an adapter tensor that does not enter the merged model.</summary>
    /// <param name="tensor">The tensor.</param>
    /// <param name="module">The adapter's module, for the report.</param>
    /// <param name="kind">The kind of adapter, for the report.</param>
    void Ignore(StoredTensor tensor, string module, string kind);

    /// <summary>Tells the caller what to know about a merge that succeeds; the same message only once.</summary>
    void Warn(string message);

    /// <summary>Reports that an adapter tensor cannot be placed.</summary>
    void Problem(StoredTensor tensor, string reason);

    /// <summary>Reports that none of a module's tensors can be placed.</summary>
    void Problem(ModuleAdapter module, string reason)
    {
        foreach (var tensor in module.Tensors.Values)
        {
            Problem(tensor, reason);
        }
    }
}

/// <summary>The kinds of adapters that can be merged.</summary>
public static class AdapterKinds
{
    /// <summary>One row per kind; where several know the same tensors, the first that finds its place takes them.</summary>
    public static IReadOnlyList<AdapterKind> Table { get; } =
    [
        new Kinds.LoraLayer(),
        new Kinds.LoraAttention(),
        new Kinds.LoraEmbedding(),
        new Kinds.LoraTrainingState(),
        new Kinds.TrainedTokens("LORA", "trainable_token_indices"),
        new Kinds.TrainedTokens("TRAINABLE_TOKENS", "token_indices"),
    ];

    /// <summary>Every part that a kind stores, longest first so that none hides another.</summary>
    public static IReadOnlyList<string> Parts { get; } = [.. Table.SelectMany(k => k.Parts).Distinct().OrderByDescending(p => p.Length)];
}
