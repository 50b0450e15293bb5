namespace UnslothMerge.Formats.Quantized;

/// <summary>What the formats share: finding companion tensors, and errors about them.</summary>
internal abstract class QuantizedFormat(params string[] methods) : IStoredFormat
{
    private static readonly string[] ActivationParts =
        [
            "input_scale", "input_zero_point", "input_global_scale", "output_scale", "output_zero_point", "activation_scale",
            "qscale_act", "input_scale_ub"];

    /// <summary>The <c>quant_method</c>s of config.json that use it.</summary>
    public IReadOnlyList<string> Methods => methods;

    /// <summary>The endings of tensors that mean nothing without a weight of this format.</summary>
    protected abstract IReadOnlyList<string> Companions { get; }

    /// <summary>Refuses companions whose weight is missing, or is not what they belong to: the model would be saved without it.</summary>
    public void RefuseOrphans(ModelConfig config, IEnumerable<StoredTensor> unclaimed)
    {
        if (IsOf(config) && unclaimed.FirstOrDefault(t => Companions.Any(c => t.Name.EndsWith(c, StringComparison.Ordinal))) is { } orphan)
        {
            var ending = Companions.First(c => orphan.Name.EndsWith(c, StringComparison.Ordinal));
            throw Damaged(orphan.Name[..^ending.Length], $"'{orphan.Name}' is there, but not the codes that it belongs to");
        }
    }

    public IEnumerable<FoundTensor> Find(Checkpoint checkpoint, ModelConfig config) =>
        IsOf(config)
            ? checkpoint.Tensors.Select(t => TryRead(t, checkpoint, config.Quantization!, config.DType ?? TensorType.BF16))
                .OfType<FoundTensor>()
            : [];

    /// <summary>Makes a weight of a stored tensor and its companions; null if it is not the main tensor of one.</summary>
    protected abstract FoundTensor? TryRead(StoredTensor tensor, Checkpoint checkpoint, JsonObject quantization, TensorType type);

    private bool IsOf(ModelConfig config) => config.Quantization is { } quantization
        && methods.Contains(StoredFormats.MethodOf(quantization), StringComparer.OrdinalIgnoreCase);

    /// <summary>The name without an ending, or null if it does not end so.</summary>
    protected static string? Stem(string name, string ending) =>
        name.EndsWith(ending, StringComparison.Ordinal) ? name[..^ending.Length] : null;

    /// <summary>A companion that must exist.</summary>
    protected static StoredTensor Require(Checkpoint checkpoint, string name, string of) =>
        checkpoint.Find(name) ?? throw Damaged(of, $"'{name}' is missing, without which it cannot be decoded");

    /// <summary>A tensor that must be a matrix of a dtype, and not empty.</summary>
    protected static StoredTensor Matrix(StoredTensor tensor, string of, params ReadOnlySpan<TensorType> types) =>
        tensor.Shape.Count == 2 && tensor.Length > 0 && types.Contains(tensor.Type) ? tensor
        : throw Damaged(
            of, $"'{tensor.Name}' is {tensor.Type} {tensor.Shape.Text()}, not a matrix of {string.Join(" or ", types.ToArray())}");

    /// <summary>A companion that must exist and be a matrix of plain numbers.</summary>
    protected static StoredTensor RequireScales(Checkpoint checkpoint, string name, string of) =>
        Matrix(Require(checkpoint, name, of), of, TensorType.F16, TensorType.BF16, TensorType.F32);

    /// <summary>A whole number of the config from 1 on; null if it is absent, or not positive where that means none.</summary>
    protected static int? Whole(JsonObject quantization, string key) => quantization.Number(key) switch
    {
        null when quantization[key] is not null => throw Odd(quantization, key),
        null or <= 0 => null,
        <= int.MaxValue and var number when number == Math.Truncate(number) => (int)number,
        _ => throw Odd(quantization, key),
    };

    /// <summary>The rows and columns of a block as a list of the config states them; null if it is absent.</summary>
    protected static (long Rows, int Columns)? Block(JsonObject quantization, string key) =>
        quantization[key] is not JsonArray { Count: 2 } block ? null
        : block[0] is JsonValue r && r.TryGetValue(out long rows) && rows > 0
            && block[1] is JsonValue c && c.TryGetValue(out int columns) && columns > 0 ? (rows, columns)
        : throw Odd(quantization, key);

    private static MergeException Odd(JsonObject quantization, string key) => new(
        MergeError.InvalidModel,
        $"The quantization of config.json says {key}: {quantization[key]!.ToJsonString()}, which has no meaning there.", key,
        "Download the config again.");

    /// <summary>Those of some companions that exist; only the quantized model uses them.</summary>
    protected static IReadOnlyList<StoredTensor> Others(Checkpoint checkpoint, params string[] names) =>
        [.. names.Select(checkpoint.Find).OfType<StoredTensor>()];

    /// <summary>The scales of a module's activations.</summary>
    protected static IReadOnlyList<StoredTensor> Activations(Checkpoint checkpoint, string module) =>
        Others(checkpoint, [.. ActivationParts.Select(p => $"{module}.{p}")]);

    /// <summary>A weight whose parts do not fit together.</summary>
    public static MergeException Damaged(string name, string what) =>
        new(
            MergeError.InvalidModel, $"The quantized weight '{name}' is damaged: {what}.", name,
            "Download the model again, or use its 16-bit original.");
}
