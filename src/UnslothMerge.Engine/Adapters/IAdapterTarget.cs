using UnslothMerge.Formats;
using UnslothMerge.Models;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters;

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
