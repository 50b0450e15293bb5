using UnslothMerge.Formats.BitsAndBytes;

namespace UnslothMerge.Planning;

/// <summary>What the caller wants of a 4-bit output; null leaves it to the base, or to Unsloth's defaults (NF4, double quantization, blocks
/// of 64). The block size is a power of two from 32 to 4096; the compute type is the dtype in which a loaded model computes.</summary>
internal sealed record FourBitRequest(FourBitCodes? Codes, bool? DoubleQuantization, int? BlockSize, TensorType? ComputeType)
    : OutputRequest
{
    internal override OutputSelection Choose(MergePlan merge, TensorType? type) => new FourBitSelection(merge, this, type);
}

/// <summary>
/// Which tensors become 4-bit, and how. On a 4-bit base those that were, with the base's own parameters; on any other the linear layers
/// that transformers' bitsandbytes integration swaps.
/// </summary>
internal sealed class FourBitSelection : OutputSelection
{
    private readonly FourBitRequest _request;
    private readonly ModelConfig _config;
    private readonly bool _baseIsFourBit;

    /// <summary>Decides for one merge.</summary>
    public FourBitSelection(MergePlan merge, FourBitRequest request, TensorType? type)
    {
        _request = request;
        _config = merge.Base.Config;
        _baseIsFourBit = merge.Tensors.Any(t => FourBitOf(t) is not null);
        Layers = new LinearLayers(merge, request, new ReaderRules(Conv1D: true, Experts: false, Block: null, Given));

        string? Given(LogicalTensor tensor) => !(type ?? tensor.Type).IsHalfWidthFloat() ? "that are not of 16 bits"
            : FourBitOf(tensor) is not null ? ReaderRules.Codes
            : _baseIsFourBit && tensor.Action != TensorAction.Replace ? LinearLayers.KeptByBase
            : null;
    }

    private FourBitCodes Codes => _request.Codes ?? FourBitCodes.Of(Own("bnb_4bit_quant_type") ?? "nf4");

    private bool Nested =>
        _request.DoubleQuantization ?? (_baseIsFourBit ? _config.Quantization?.Bool("bnb_4bit_use_double_quant") ?? false : true);

    public override string Quantized => "4-bit";

    public override LinearLayers Layers { get; }

    public override TensorSink? For(LogicalTensor tensor, TensorType type)
    {
        var options = new FourBitOptions(Codes, _request.BlockSize ?? FourBitOf(tensor)?.BlockSize ?? 64, Nested, type);
        return Layers.Find(tensor) is not { } layer ? null
            : layer.Kind != WeightKind.Conv1D ? new FourBitSink(tensor.Name, tensor.Shape, options)
            : new TransposedSink(new FourBitSink(tensor.Name, [.. tensor.Shape.Reverse()], options), (int)tensor.Shape[0]);
    }

    public override ModelConfig Configure(ModelConfig config) => config.WithQuantization(ToConfig(config.DType ?? TensorType.BF16));

    /// <summary>The <c>quantization_config</c> of the output, as transformers writes it.</summary>
    private JsonObject ToConfig(TensorType type) => new()
    {
        ["_load_in_4bit"] = true,
        ["_load_in_8bit"] = false,
        ["bnb_4bit_compute_dtype"] = _request.ComputeType?.TorchName() ?? Own("bnb_4bit_compute_dtype") ?? type.TorchName(),
        ["bnb_4bit_quant_storage"] = "uint8",
        ["bnb_4bit_quant_type"] = Codes.Name,
        ["bnb_4bit_use_double_quant"] = Nested,
        ["llm_int8_enable_fp32_cpu_offload"] = false,
        ["llm_int8_has_fp16_weight"] = false,
        ["llm_int8_skip_modules"] = SkipList(),
        ["llm_int8_threshold"] = JsonNode.Parse("6.0"),
        ["load_in_4bit"] = true,
        ["load_in_8bit"] = false,
        ["quant_method"] = "bitsandbytes",
    };

    private static FourBitSource? FourBitOf(LogicalTensor tensor) =>
        ((tensor.Source as TransposedSource)?.Stored ?? tensor.Source) as FourBitSource;

    private string? Own(string key) => _baseIsFourBit ? _config.Quantization?.String(key) : null;

    // A reader that is told nothing skips the heads. The base's own list is kept, and what it lacks is added.
    private JsonArray? SkipList()
    {
        var own = _config.Quantization?.Strings("llm_int8_skip_modules") ?? [];
        var lacking = Layers.Skips.Where(s => !own.Any(o => LinearLayers.IsSkippedBy(o, s))).ToList();
        return own.Count == 0 && Layers.AreDefault ? null
            : [.. own.Concat(lacking).Where(s => s.Length > 0).Select(s => (JsonNode)s)];
    }
}
