namespace UnslothMerge.Planning;

/// <summary>A matrix, or a stack of experts' matrices, that readers may swap for a quantized one.</summary>
internal sealed partial class Layer(
    LogicalTensor tensor, string module, IReadOnlyList<string> fullNames, WeightKind kind, NameRule? conversion)
{
    public LogicalTensor Tensor => tensor;

    /// <summary>Its module in the checkpoint.</summary>
    public string Module => module;

    /// <summary>Its module in the running model; several where it is cut when it is loaded.</summary>
    public IReadOnlyList<string> FullNames => fullNames;

    public WeightKind Kind => kind;

    /// <summary>True if the running model has another matrix, made from it and maybe others; a stack of experts' matrices is none, if each
    /// has its place in it.</summary>
    public bool IsConverted => conversion is not null && !(kind == WeightKind.Experts && conversion.Has("MergeModulelist"));

    /// <summary>Why it stays in 16 bits; null if it becomes codes.</summary>
    public string? Kept { get; set; }

    /// <summary>The single matrices that a stack of experts' matrices is cut into; null if it is not.</summary>
    public FusedExperts? Fused { get; init; }

    /// <summary>All its names.</summary>
    public IEnumerable<string> Names => fullNames.Append(module);

    /// <summary>The modules that hold all experts of the layer, as the running model and the checkpoint call them; none outside
    /// experts.</summary>
    public IReadOnlyList<string> Experts { get; } =
        [.. fullNames.Append(module).Select(n => ExpertPattern().Match(n) is { Success: true } match ? match.Groups["experts"].Value
            : kind == WeightKind.Experts ? TensorNames.ModuleOf(n) : "").Where(n => n.Length > 0).Distinct()];

    [GeneratedRegex(@"^(?<experts>.*\.experts)\.\d+\.", RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant)]
    private static partial Regex ExpertPattern();
}
