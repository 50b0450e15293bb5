using System.Diagnostics.CodeAnalysis;

namespace UnslothMerge.Adapters;

/// <summary>The tensors that an adapter stores for one module, of one kind, with the checks that kinds need. Levels are the stored tensors
/// by part and wrapper, the outermost wrapper first: more than one only for kinds that nest. Shared are those that all modules share, by
/// name without <c>base_model.</c>; <see cref="Modules"/> is the number of modules that the adapter changes.</summary>
internal sealed record AdaptedModule(
    string Name,
    AdapterConfig Config,
    BaseParameters Base,
    IReadOnlyList<IReadOnlyDictionary<string, StoredTensor>> Levels,
    IReadOnlyDictionary<string, StoredTensor> Shared,
    int Modules)
{
    /// <summary>The outputs of another module, if the adapter has it: the rows of its lora_B.</summary>
    public Func<string, long?> OutputsOf { get; init; } = _ => null;

    /// <summary>The stored tensors by part.</summary>
    public IReadOnlyDictionary<string, StoredTensor> Tensors => Levels[0];

    /// <summary>The module's weight in the base.</summary>
    public TargetTensor Weight => FindParameter("weight") ?? throw new MisfitException($"the base has no {Name}.weight");

    /// <summary>Finds a parameter of the module; null if the base has none.</summary>
    public TargetTensor? FindParameter(string parameter) => Base.Find(Name, parameter);

    /// <summary>True if the file has a part.</summary>
    public bool Has(string part) => Tensors.ContainsKey(part);

    /// <summary>A part's tensor, or null if the file has none.</summary>
    public StoredTensor? Find(string part) => Tensors.GetValueOrDefault(part);

    /// <summary>A part's tensor.</summary>
    public StoredTensor Part(string part) => Find(part)
        ?? throw new MisfitException(
            $"the module {Name} has no {part}, without which its {string.Join(", ", Tensors.Keys)} mean{(Tensors.Count == 1 ? "s" : "")} "
            + "nothing");

    /// <summary>A part with plain numbers, of so many dimensions.</summary>
    public StoredTensor Numbers(string part, int? dimensions = null) => RequireNumbers(Part(part), dimensions);

    /// <summary>A part with plain numbers, or null if the file has none.</summary>
    public StoredTensor? OptionalNumbers(string part, int? dimensions = null) =>
        Find(part) is { } tensor ? RequireNumbers(tensor, dimensions) : null;

    /// <summary>A part with whole numbers.</summary>
    public StoredTensor Indices(string part, int dimensions)
    {
        var tensor = Part(part);
        Require(
            tensor.Type is TensorType.U8 or TensorType.I16 or TensorType.I32 or TensorType.I64,
            $"{part} is {tensor.Type}, but indices are whole numbers");
        RequireDimensions(tensor, dimensions);
        return tensor;
    }

    /// <summary>A tensor with plain numbers that all modules of the adapter share: of that name, or the only one whose name goes on after a
    /// dot.</summary>
    public StoredTensor SharedNumbers(string name, int dimensions) =>
        Shared.GetValueOrDefault(name) is { } tensor ? RequireNumbers(tensor, dimensions)
        : SharedList(name, dimensions) is [var only] ? only
        : throw new MisfitException($"the file has no base_model.{name}, which all modules share");

    /// <summary>The tensors that all modules share and whose names are this one and more after a dot, numbers in their order.</summary>
    public IReadOnlyList<StoredTensor> SharedList(string name, int dimensions) =>
    [
        .. Shared.Where(t => t.Key.StartsWith(name + ".", StringComparison.Ordinal))
            .OrderBy(t => t.Key.Length).ThenBy(t => t.Key, StringComparer.Ordinal).Select(t => RequireNumbers(t.Value, dimensions)),
    ];

    /// <summary>Ends the binding of this module unless something holds. The tensors are those that do not fit; none for all of the
    /// module.</summary>
    public static void Require([DoesNotReturnIf(false)] bool holds, string otherwise, params IReadOnlyList<StoredTensor> tensors)
    {
        if (!holds)
        {
            throw new MisfitException(otherwise, tensors);
        }
    }

    /// <summary>Checks the rank of the tensors against the config.</summary>
    public int RequireRank(long rank)
    {
        var expected = Config.RankOf(Name);
        Require(expected is null || expected == rank, $"its rank is {rank}, but adapter_config.json gives {Name} the rank {expected}");
        return checked((int)rank);
    }

    /// <summary>The module's bias, which a tensor is added to.</summary>
    public TargetTensor RequireBias(StoredTensor added) =>
        FindParameter("bias") ?? throw new MisfitException($"{Name} has no bias in the base that it could be added to", added);

    /// <summary>Checks that a delta [rows, columns] fits a weight, of which dimensions after the second count as columns.</summary>
    public static void RequireFit(TargetTensor weight, long rows, long columns) => Require(
        weight.Shape.Count >= 2 && weight.Shape[0] == rows && weight.Shape.Count() == rows * columns,
        $"the delta is [{rows}, {columns}], the weight {weight.Name} is {weight.Shape.Text()}");

    /// <summary>Checks that a delta [outputs, inputs] (of convolutions: [outputs, inputs · kernel]) fits the weight as torch's layers store
    /// it.</summary>
    public void RequireFit(long outputs, long inputs) => RequireFit(Weight, outputs, inputs);

    /// <summary>Checks that a delta fits the weight, stored either way; true if it is stored as [in, out]. Inputs are times the
    /// kernel.</summary>
    public bool IsTransposed(long? outputs, long? inputs) => LayerLayout.Of(this, outputs, inputs)?.InputFirst
        ?? throw new MisfitException(
            $"the delta is [{(object?)outputs ?? "?"}, {(object?)inputs ?? "?"}], the weight {Weight.Name} is {Weight.Shape.Text()}");

    /// <summary>The weight's outputs and inputs (times the kernel).</summary>
    public (int Outputs, int Inputs) Features(bool transposed)
    {
        var (first, rest) = ((int)Weight.Shape[0], (int)(Weight.Shape.Count() / Math.Max(Weight.Shape[0], 1)));
        return transposed ? (rest, first) : (first, rest);
    }

    private static StoredTensor RequireNumbers(StoredTensor tensor, int? dimensions)
    {
        Require(tensor.Type.IsPlainFloat(), $"'{tensor.Name}' is {tensor.Type}, not plain numbers");
        RequireDimensions(tensor, dimensions ?? tensor.Shape.Count);
        return tensor;
    }

    private static void RequireDimensions(StoredTensor tensor, int dimensions) =>
        Require(
            tensor.Shape.Count == dimensions, $"'{tensor.Name}' {tensor.Shape.Text()} should have {Amount.Text(dimensions, "dimension")}");
}
