namespace UnslothMerge.Safetensors;

/// <summary>The dtypes of the safetensors format, in the format's own ascending order (a writer sorts by it, descending). The names are
/// spelled as in the file. Source: huggingface/safetensors 0.8, <c>Dtype</c>.</summary>
#pragma warning disable CA1707 // the format spells some of its dtypes with underscores
internal enum TensorType
{
    BOOL,
    F4,
    F6_E2M3,
    F6_E3M2,
    U8,
    I8,
    F8_E5M2,
    F8_E4M3,
    F8_E8M0,
    F8_E4M3FNUZ,
    F8_E5M2FNUZ,
    I16,
    U16,
    F16,
    BF16,
    I32,
    U32,
    F32,
    C64,
    F64,
    I64,
    U64,
}
#pragma warning restore CA1707

/// <summary>Facts about <see cref="TensorType"/>.</summary>
internal static class TensorTypes
{
    private static readonly Dictionary<string, TensorType> ByName = Enum.GetValues<TensorType>().ToDictionary(
        t => t.ToString(), StringComparer.Ordinal);

    /// <summary>The bits of one element.</summary>
    public static int Bits(this TensorType type) => type switch
    {
        TensorType.F4 => 4,
        TensorType.F6_E2M3 or TensorType.F6_E3M2 => 6,
        TensorType.I16 or TensorType.U16 or TensorType.F16 or TensorType.BF16 => 16,
        TensorType.I32 or TensorType.U32 or TensorType.F32 => 32,
        TensorType.C64 or TensorType.F64 or TensorType.I64 or TensorType.U64 => 64,
        _ => 8,
    };

    /// <summary>True for the dtypes that hold weights as they are: F16, BF16, F32 and F64.</summary>
    public static bool IsPlainFloat(this TensorType type) => type is TensorType.F16 or TensorType.BF16 or TensorType.F32 or TensorType.F64;

    /// <summary>True for the two 16-bit floating-point dtypes.</summary>
    public static bool IsHalfWidthFloat(this TensorType type) => type is TensorType.F16 or TensorType.BF16;

    /// <summary>Torch's name of a floating-point dtype, as config.json spells it.</summary>
    public static string TorchName(this TensorType type) => type switch
    {
        TensorType.F16 => "float16",
        TensorType.BF16 => "bfloat16",
        TensorType.F32 => "float32",
        TensorType.F64 => "float64",
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "Not a floating-point dtype of a model."),
    };

    /// <summary>Reads a dtype by its name in a safetensors header.</summary>
    public static bool TryParse(string? name, out TensorType type)
    {
        type = default;
        return name is not null && ByName.TryGetValue(name, out type);
    }

    /// <summary>Reads a floating-point dtype by the names that people and torch give it: BF16, bfloat16, torch.bfloat16, half …</summary>
    public static TensorType? FromTorchName(string? name) =>
        name?.Trim().ToLowerInvariant().Replace("torch.", "", StringComparison.Ordinal) switch
    {
        "bfloat16" or "bf16" => TensorType.BF16,
        "float16" or "f16" or "fp16" or "half" => TensorType.F16,
        "float32" or "f32" or "fp32" or "float" => TensorType.F32,
        "float64" or "f64" or "fp64" or "double" => TensorType.F64,
        _ => null,
    };
}
