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

    /// <summary>The tensors that all modules share, without <c>base_model.</c>: <c>vera_A</c> …; their names may go on after a dot.</summary>
    public virtual IReadOnlyList<string> SharedParts => [];

    /// <summary>True if a module may have these parts several times, one wrapper around the other (see <see cref="ModuleAdapter.Levels"/>).</summary>
    public virtual bool Nests => false;

    /// <summary>Says what the tensors of one module change.</summary>
    /// <returns>False if the base has no parameter of that module that this kind could change; then the next row of the table is asked.</returns>
    public abstract bool Bind(ModuleAdapter module, IAdapterTarget target);
}

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

/// <summary>The plan in the making, as an adapter kind sees it. Every tensor of the adapter is claimed once or reported as a problem.</summary>
public interface IAdapterTarget
{
    /// <summary>Finds a parameter of a module; null if the base has none.</summary>
    TargetTensor? Find(string module, string parameter);

    /// <summary>What the caller said of the orientation of square expert parameters.</summary>
    MoeOrientation? MoeOrientation { get; }

    /// <summary>What the caller said of the arrangement of B of fused experts.</summary>
    MoeLoraLayout? MoeLoraLayout { get; }

    /// <summary>The model types of the base and of the models inside it.</summary>
    IReadOnlySet<string> ModelTypes { get; }

    /// <summary>The parameters that a module has itself, by their name in the module.</summary>
    IReadOnlyDictionary<string, TargetTensor> Parameters(string module);

    /// <summary>The tensors of a module's experts, where each expert has tensors of its own.</summary>
    IReadOnlyList<ExpertTarget> Experts(string module);

    /// <summary>Adds several deltas with the same inputs: those of the parts that one adapted parameter has in the model, or of its experts.</summary>
    /// <param name="module">The adapter's module, for the report.</param>
    /// <param name="deltas">The deltas.</param>
    void Add(string module, IReadOnlyList<TargetDelta> deltas);

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
        new Kinds.LoraParameters(),
        new Kinds.LoraSlice(),
        new Kinds.LoraLayer(),
        new Kinds.LoraAttention(),
        new Kinds.LoraEmbedding(),
        new Kinds.LoraTrainingState(),
        new Kinds.TrainedTokens("LORA", "trainable_token_indices"),
        new Kinds.TrainedTokens("TRAINABLE_TOKENS", "token_indices"),
        new Kinds.Ia3(),
        new Kinds.LnTuning(),
        new Kinds.Beft(),
        new Kinds.Oft(),
        new Kinds.OftEmbedding(),
        new Kinds.Boft(),
        new Kinds.Hra(),
        new Kinds.Road(),
        new Kinds.Glora(),
        new Kinds.Osf(),
        new Kinds.Frod(),
        new Kinds.AdaLora(),
        new Kinds.C3A(),
        new Kinds.Deft(),
        new Kinds.DeLora(),
        new Kinds.FourierFt(),
        new Kinds.GraLora(),
        new Kinds.Hira(),
        new Kinds.HiraEmbedding(),
        new Kinds.LoHa(),
        new Kinds.LoKr(),
        new Kinds.Miss(),
        new Kinds.Peanut(),
        new Kinds.Pvera(),
        new Kinds.RandLora(),
        new Kinds.Shira(),
        new Kinds.SuperTuning(),
        new Kinds.TinyLora(),
        new Kinds.UniLora(),
        new Kinds.VbLora(),
        new Kinds.Vera(),
        new Kinds.WaveFt(),
    ];

    /// <summary>Every part that a kind stores, longest first so that none hides another.</summary>
    public static IReadOnlyList<string> Parts { get; } = [.. Table.SelectMany(k => k.Parts).Distinct().OrderByDescending(p => p.Length)];
}
