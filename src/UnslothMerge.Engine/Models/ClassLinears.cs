namespace UnslothMerge.Models;

/// <summary>What a module's weight is to a reader that swaps linear layers for quantized ones.</summary>
internal enum WeightKind
{
    /// <summary>None of the others: an embedding, a norm, a convolution.</summary>
    Other,

    /// <summary>Exactly <c>nn.Linear</c>: readers swap it.</summary>
    Linear,

    /// <summary>A subclass of <c>nn.Linear</c>: readers of some releases swap it.</summary>
    Subclass,

    /// <summary>A linear layer that transformers keeps in fp32.</summary>
    Fp32,

    /// <summary>transformers' <c>Conv1D</c>, W transposed: only bitsandbytes' reader swaps it.</summary>
    Conv1D,

    /// <summary>A stack of experts' matrices.</summary>
    Experts,
}

/// <summary>Which weights of a class readers take for linear layers: <c>linears.json</c>.</summary>
internal sealed partial class ClassLinears
{
    private readonly Dictionary<string, WeightKind> _kinds = new(StringComparer.Ordinal);
    private readonly IReadOnlyList<string> _fp32;
    private readonly string _prefix;

    private ClassLinears(JsonObject entry, string prefix)
    {
        foreach (var (key, kind) in new[]
            { ("linear", WeightKind.Linear), ("other", WeightKind.Subclass), ("experts", WeightKind.Experts) })
        {
            foreach (var path in entry.Strings(key))
            {
                _kinds[path] = kind == WeightKind.Subclass && Conv1D().IsMatch(path) ? WeightKind.Conv1D : kind;
            }
        }

        Head = entry.String("head");
        _fp32 = entry.Strings("fp32");
        _prefix = prefix.Length > 0 ? prefix + "." : "";
    }

    /// <summary>The module of the output embedding; null if the class has none.</summary>
    public string? Head { get; }

    /// <summary>Those of a class; null if the data do not have it.</summary>
    public static ClassLinears? Of(ModelClass @class) =>
        @class.Name is { } name && TransformersData.LinearsOf(name) is JsonObject entry ? new ClassLinears(entry, @class.Prefix) : null;

    /// <summary>A module's full name in the running model, where a checkpoint may leave out the model's prefix; null if the data do not
    /// have it.</summary>
    public string? FullName(string module) =>
        new[] { module, _prefix + module }.FirstOrDefault(m => _kinds.ContainsKey(Starred(m)));

    /// <summary>What the weight of a module is, by its full name in the running model.</summary>
    public WeightKind KindOf(string module) =>
        _kinds.GetValueOrDefault(Starred(module)) is var kind && kind == WeightKind.Linear && KeepsInFp32(module) ? WeightKind.Fp32 : kind;

    /// <summary>What a weight is, by its name in the checkpoint, if that is the one in the running model.</summary>
    public WeightKind KindOfWeight(string name) => FullName(TensorNames.ModuleOf(name)) is { } module ? KindOf(module) : WeightKind.Other;

    // Readers take an entry as an ending, or as a part of the path.
    private bool KeepsInFp32(string module) =>
        _fp32.Any(p => module.EndsWith(p, StringComparison.Ordinal)
            || Regex.IsMatch(module + ".weight", $@"(^|\.)(?:{p})(\.|$)", RegexOptions.CultureInvariant));

    private static string Starred(string name) => Number().Replace(name, "*");

    [GeneratedRegex(@"(?<=\.)\d+(?=\.|$)", RegexOptions.CultureInvariant)]
    private static partial Regex Number();

    // GPT-2 and its relatives.
    [GeneratedRegex(@"\.(c_attn|q_attn|c_proj|c_fc)$", RegexOptions.CultureInvariant)]
    private static partial Regex Conv1D();
}
