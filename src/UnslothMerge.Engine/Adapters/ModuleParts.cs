using UnslothMerge.Models;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters;

/// <summary>The tensors of one module and the weight they change, with the checks that every kind needs.</summary>
/// <param name="module">The stored tensors.</param>
/// <param name="weight">The weight.</param>
/// <param name="target">The plan in the making.</param>
public sealed class ModuleParts(ModuleAdapter module, TargetTensor weight, IAdapterTarget target)
{
    /// <summary>The module's name in the running model.</summary>
    public string Module => module.Module;

    /// <summary>The adapter's config.</summary>
    public AdapterConfig Config => module.Config;

    /// <summary>The weight.</summary>
    public TargetTensor Weight => weight;

    /// <summary>The number of modules that the adapter changes.</summary>
    public int Modules => module.Modules;

    /// <summary>True for a convolution.</summary>
    public bool IsConvolution => weight.Shape.Count > 2;

    /// <summary>The positions of a convolution's kernel; 1 for other layers.</summary>
    public int Kernel => (int)weight.Shape.Skip(2).Aggregate(1L, (a, b) => a * b);

    /// <summary>The names of the stored parts.</summary>
    public IEnumerable<string> Names => module.Tensors.Keys;

    /// <summary>True if the file has a part.</summary>
    public bool Has(string part) => module.Find(part) is not null;

    /// <summary>A part with plain numbers.</summary>
    /// <param name="part">Its name.</param>
    /// <param name="dimensions">How many it must have; any number if null.</param>
    public StoredTensor Numbers(string part, int? dimensions = null) => CheckNumbers(module.Find(part) ?? throw Missing(part), dimensions);

    /// <summary>A part with plain numbers, or null if the file has none.</summary>
    public StoredTensor? OptionalNumbers(string part, int? dimensions = null) => module.Find(part) is { } tensor ? CheckNumbers(tensor, dimensions) : null;

    /// <summary>A part with whole numbers.</summary>
    public StoredTensor Indices(string part, int dimensions)
    {
        var tensor = module.Find(part) ?? throw Missing(part);
        Require(tensor.Type is TensorType.U8 or TensorType.I16 or TensorType.I32 or TensorType.I64, $"{part} is {tensor.Type}, but indices are whole numbers");
        RequireDimensions(tensor, dimensions);
        return tensor;
    }

    /// <summary>A tensor with plain numbers that all modules of the adapter share.</summary>
    public StoredTensor Shared(string name, int dimensions) =>
        CheckNumbers(module.FindShared(name) ?? throw new MisfitException($"the file has no base_model.{name}, which all modules share"), dimensions);

    /// <summary>The tensors that all modules share and that have a number after their name, by that number.</summary>
    public IReadOnlyList<StoredTensor> SharedList(string name, int dimensions) => [.. module.FindSharedList(name).Select(t => CheckNumbers(t, dimensions))];

    /// <summary>Ends the binding of this module unless something holds.</summary>
    /// <exception cref="MisfitException">It does not.</exception>
    public static void Require(bool holds, string otherwise)
    {
        if (!holds)
        {
            throw new MisfitException(otherwise);
        }
    }

    /// <summary>Checks the rank of the tensors against the config.</summary>
    public int CheckRank(long rank)
    {
        var expected = Config.RankOf(Module);
        Require(expected is null || expected == rank, $"its rank is {rank}, but adapter_config.json gives {Module} the rank {expected}");
        return (int)rank;
    }

    /// <summary>Checks that a delta [outputs, inputs] (of convolutions: [outputs, inputs · kernel]) fits the weight as torch's layers store it.</summary>
    public void Fit(long outputs, long inputs) => Require(
        weight.Shape[0] == outputs && weight.Shape.Count() == outputs * inputs,
        $"the delta is [{outputs}, {inputs}], the weight {weight.Name} is {weight.Shape.Text()}");

    /// <summary>Checks that a delta fits the weight, stored either way.</summary>
    /// <param name="outputs">The outputs, if the tensors tell.</param>
    /// <param name="inputs">The inputs (times the kernel), if the tensors tell.</param>
    /// <returns>True if the weight is stored as [in, out].</returns>
    public bool Orient(long? outputs, long? inputs) => LayerLayout.Of(module, target, weight, outputs, inputs)?.InputFirst
        ?? throw new MisfitException($"the delta is [{(object?)outputs ?? "?"}, {(object?)inputs ?? "?"}], the weight {weight.Name} is {weight.Shape.Text()}");

    /// <summary>The weight's outputs and inputs (times the kernel).</summary>
    public (int Outputs, int Inputs) Features(bool transposed)
    {
        var (first, rest) = ((int)weight.Shape[0], (int)(weight.Shape.Count() / Math.Max(weight.Shape[0], 1)));
        return transposed ? (rest, first) : (first, rest);
    }

    private MisfitException Missing(string part) => new($"the module {Module} has no {part}, without which its {string.Join(", ", Names)} mean{(module.Tensors.Count == 1 ? "s" : "")} nothing");

    private static StoredTensor CheckNumbers(StoredTensor tensor, int? dimensions)
    {
        Require(tensor.Type.IsPlainFloat(), $"'{tensor.Name}' is {tensor.Type}, not plain numbers");
        RequireDimensions(tensor, dimensions ?? tensor.Shape.Count);
        return tensor;
    }

    private static void RequireDimensions(StoredTensor tensor, int dimensions) =>
        Require(tensor.Shape.Count == dimensions, $"'{tensor.Name}' {tensor.Shape.Text()} should have {dimensions} dimension{(dimensions == 1 ? "" : "s")}");
}
