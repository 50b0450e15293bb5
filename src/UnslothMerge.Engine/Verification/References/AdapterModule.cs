using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Adapters;

namespace UnslothMerge.Verification.References;

/// <summary>The tensors of an adapter by module and part, as its own file names them.</summary>
internal sealed class AdapterTensors
{
    private readonly Dictionary<(string Module, string Part), StoredTensor> _parts = [];

    public AdapterTensors(AdapterDirectory adapter)
    {
        Adapter = adapter;
        foreach (var tensor in adapter.Weights.Tensors)
        {
            var name = AdapterNames.Parse(tensor.Name);
            _parts.TryAdd((name.Module, name.Part), tensor);
        }
    }

    public AdapterDirectory Adapter { get; }

    public StoredTensor? Find(string module, string part) => _parts.GetValueOrDefault((module, part));

    /// <summary>Tensors that all modules share: <c>vera_A</c> or <c>tinylora_v.0</c> …</summary>
    public IReadOnlyList<StoredTensor> Shared(string name) =>
    [
        .. Adapter.Weights.Tensors.Where(t => $"{t.Name}.".StartsWith($"base_model.{name}.", StringComparison.Ordinal))
            .OrderBy(t => t.Name.Length).ThenBy(t => t.Name, StringComparer.Ordinal),
    ];
}

/// <summary>What an adapter stores for one module, read in float64, and what its config says. The planned tensors are those that the plan
/// uses for it, shared ones included.</summary>
internal sealed class AdapterModule(InputFiles files, AdapterTensors tensors, string name, IReadOnlyList<StoredTensor> planned)
{
    public string Name => name;

    /// <summary>adapter_config.json.</summary>
    public JsonObject Config => tensors.Adapter.Config.Json;

    /// <summary>The texts of a list in the config, or of one text.</summary>
    public IReadOnlyList<string> Texts(string option) => Config.Strings(option);

    /// <summary>True for an option that Python takes for true.</summary>
    public bool IsSet(string option) => Config[option] switch
    {
        JsonArray list => list.Count > 0,
        JsonObject json => json.Count > 0,
        JsonValue value => value.GetValueKind() is var kind
            && (kind == JsonValueKind.Number ? Config.Number(option) != 0 : kind == JsonValueKind.String ? $"{value}".Length > 0
                : kind == JsonValueKind.True),
        _ => false,
    };

    public bool Has(string part) => tensors.Find(name, part) is not null;

    public IReadOnlyList<long> Shape(string part) => Find(part).Shape;

    public double[] Values(string part) => PlainValues.ReadAll(files, Find(part));

    /// <summary>A tensor as a matrix: its first dimension by the product of the others.</summary>
    public Matrix<double> Matrix(string part) => AsMatrix(Find(part));

    public Vector<double> Vector(string part) => Vector<double>.Build.Dense(Values(part));

    /// <summary>A tensor that all modules share, as a matrix; of several, the one that the plan uses for this module.</summary>
    public Matrix<double> Shared(string shared) =>
        AsMatrix(tensors.Shared(shared) is [var only] ? only : tensors.Shared(shared).First(t => planned.Any(p => p.Name == t.Name)));

    public double? Number(string option) => Config.Number(option);

    public string? Text(string option) => Config.String(option);

    /// <summary>A number of the config that a pattern may replace for some modules. Source: PEFT 0.21, <c>get_pattern_key</c>.</summary>
    public double Number(string option, string pattern) =>
        (tensors.Adapter.Config.KeysOf(pattern)?.Find(name) is >= 0 and var place
            ? (double?)Config[pattern]!.AsObject().GetAt(place).Value : null)
        ?? Number(option) ?? throw Missing($"adapter_config.json of '{tensors.Adapter.Path}' has no {option}.");

    private StoredTensor Find(string part) =>
        tensors.Find(name, part) ?? throw Missing($"The adapter '{tensors.Adapter.Path}' has no {part} for {name}.");

    private MergeException Missing(string message) => new(MergeError.InvalidAdapter, message, tensors.Adapter.Path);

    private Matrix<double> AsMatrix(StoredTensor tensor)
    {
        var (rows, columns) = (tensor.Shape is [var first, ..] ? first : 1, tensor.Shape.Skip(1).Aggregate(1L, (x, y) => x * y));
        return Matrix<double>.Build.DenseOfRowMajor(checked((int)rows), checked((int)columns), PlainValues.ReadAll(files, tensor));
    }
}
