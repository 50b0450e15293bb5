namespace UnslothMerge.Formats.Quantized;

/// <summary>What the scales of a scheme are.</summary>
internal enum ScaleKind
{
    /// <summary>Numbers of the model's 16-bit dtype.</summary>
    HalfWidth,

    /// <summary>Powers of two, E8M0.</summary>
    PowerOfTwo,

    /// <summary>E4M3, all of them divided by one F32 number of the weight.</summary>
    Divided,
}

/// <summary>How compressed-tensors quantizes a matrix. Group: the columns that share a scale, null for the whole row; block rows: the rows
/// that do. Inputs: how a loaded model quantizes its activations, null if it does not. Source: compressed-tensors 0.19,
/// <c>quant_scheme.py</c>.</summary>
internal sealed record CompressedScheme(string Name, string Format, int Bits, bool IsFloat, ScaleKind Scales, int? Group)
{
    /// <summary>The name of a scheme that is none of the presets.</summary>
    private const string NoPreset = "config_group_0";

    /// <summary>FP8 with a scale a row.</summary>
    public static CompressedScheme Fp8Dynamic { get; } =
        new("FP8_DYNAMIC", "float-quantized", 8, true, ScaleKind.HalfWidth, null) { Inputs = "token" };

    /// <summary>FP8 with a scale for each block of 128 × 128.</summary>
    public static CompressedScheme Fp8Block { get; } =
        new("FP8_BLOCK", "float-quantized", 8, true, ScaleKind.HalfWidth, 128) { BlockRows = 128, Inputs = "group" };

    /// <summary>INT8 with a scale a row.</summary>
    public static CompressedScheme W8A8 { get; } =
        new("W8A8", "int-quantized", 8, false, ScaleKind.HalfWidth, null) { Inputs = "token" };

    /// <summary>Integers of 8 bits in groups, packed.</summary>
    public static CompressedScheme W8A16 { get; } = new("W8A16", "pack-quantized", 8, false, ScaleKind.HalfWidth, 128);

    /// <summary>Integers of 4 bits in groups, packed.</summary>
    public static CompressedScheme W4A16 { get; } = new("W4A16", "pack-quantized", 4, false, ScaleKind.HalfWidth, 128);

    /// <summary>The same, with zero points.</summary>
    public static CompressedScheme W4A16Asymmetric { get; } = W4A16 with { Name = "W4A16_ASYM", IsSymmetric = false };

    /// <summary>FP8 in groups of 32 with powers of two.</summary>
    public static CompressedScheme MxFp8 { get; } =
        new("MXFP8", "mxfp8-quantized", 8, true, ScaleKind.PowerOfTwo, 32) { Inputs = "group" };

    /// <summary>FP4 in groups of 32 with powers of two.</summary>
    public static CompressedScheme MxFp4 { get; } =
        new("MXFP4", "mxfp4-pack-quantized", 4, true, ScaleKind.PowerOfTwo, 32) { Inputs = "group" };

    /// <summary>The same, with activations in 16 bits.</summary>
    public static CompressedScheme MxFp4A16 { get; } = MxFp4 with { Name = "MXFP4A16", Inputs = null };

    /// <summary>FP4 in groups of 16 with E4M3 scales and one divisor.</summary>
    public static CompressedScheme NvFp4A16 { get; } = new("NVFP4A16", "nvfp4-pack-quantized", 4, true, ScaleKind.Divided, 16);

    public int BlockRows { get; init; } = 1;

    public bool IsSymmetric { get; init; } = true;

    public string? Inputs { get; init; }

    /// <summary>The largest magnitude of a code, or half of the range of codes, which the largest magnitude of a group becomes.</summary>
    public float Highest => (IsFloat, Bits) switch { (true, 8) => 448, (true, _) => 6, (false, 8) => 127.5f, _ => 7.5f };

    /// <summary>True if codes lie in a tensor that is called packed.</summary>
    public bool IsPacked => Format.Contains("pack", StringComparison.Ordinal);

    /// <summary>What users call its numbers.</summary>
    public string Numbers => Scales switch
    {
        ScaleKind.PowerOfTwo => $"MXFP{Bits}",
        ScaleKind.Divided => "NVFP4",
        _ => IsFloat ? "FP8" : $"INT{Bits}",
    };

    /// <summary>The same scheme for groups of another size.</summary>
    public CompressedScheme WithGroup(int size) => size == Group ? this : this with { Name = NoPreset, Group = size };

    /// <summary>The <c>quantization_config</c> of a model whose linear layers have it, but for the modules of a list.</summary>
    public JsonObject ToConfig(IEnumerable<string> ignored) => new()
    {
        ["config_groups"] = new JsonObject
        {
            [Name] = new JsonObject
            {
                ["format"] = Format,
                ["input_activations"] = Inputs is null ? null : Arguments(Inputs, isWeight: false),
                ["output_activations"] = null,
                ["targets"] = new JsonArray("Linear"),
                ["weights"] = Arguments(
                    Scales == ScaleKind.Divided ? "tensor_group" : BlockRows > 1 ? "block" : Group is null ? "channel" : "group",
                    isWeight: true),
            },
        },
        ["format"] = Format,
        ["global_compression_ratio"] = null,
        ["ignore"] = new JsonArray([.. ignored.Select(i => (JsonNode)i)]),
        ["kv_cache_scheme"] = null,
        ["quant_method"] = "compressed-tensors",
        ["quantization_status"] = "compressed",
        ["transform_config"] = new JsonObject(),
        ["version"] = "0.19.0",
    };

    private JsonObject Arguments(string strategy, bool isWeight) => new()
    {
        ["actorder"] = null,
        ["block_structure"] = strategy == "block" ? new JsonArray(BlockRows, Group) : null,
        ["dynamic"] = !isWeight,
        ["group_size"] = strategy.EndsWith("group", StringComparison.Ordinal) ? Group : null,
        ["num_bits"] = Bits,
        ["observer"] = null,
        ["observer_kwargs"] = new JsonObject(),
        ["scale_dtype"] = Scales switch
        {
            ScaleKind.PowerOfTwo => "torch.uint8",
            ScaleKind.Divided => "torch.float8_e4m3fn",
            _ => null,
        },
        ["strategy"] = strategy,
        ["symmetric"] = !isWeight || IsSymmetric,
        ["type"] = IsFloat ? "float" : "int",
        ["zp_dtype"] = isWeight && !IsSymmetric ? "torch.int8" : null,
    };
}
