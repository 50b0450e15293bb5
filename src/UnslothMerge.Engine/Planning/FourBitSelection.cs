using UnslothMerge.Formats;
using UnslothMerge.Formats.BitsAndBytes;
using UnslothMerge.Models;

namespace UnslothMerge.Planning;

/// <summary>What the caller wants of a 4-bit output; null leaves it to the base, or to Unsloth's defaults (NF4, double quantization, blocks
/// of 64). The block size is a power of two from 32 to 4096; the compute type is the dtype in which a loaded model computes.</summary>
internal sealed record FourBitRequest(FourBitCodes? Codes, bool? DoubleQuantization, int? BlockSize, TensorType? ComputeType)
    : OutputRequest
{
    internal override OutputSelection Choose(MergePlan merge) => new FourBitSelection(merge, this);
}

/// <summary>
/// Which tensors become 4-bit, and how. On a 4-bit base those that were, with the base's own parameters; on any other the linear layers of
/// the language model: not the head, embeddings, norms, routers, nor the towers of other modalities. Source: transformers' bitsandbytes
/// integration; Unsloth's list of modules to skip.
/// </summary>
internal sealed class FourBitSelection : OutputSelection
{
    private readonly MergePlan _merge;
    private readonly FourBitRequest _request;
    private readonly ModelConfig _config;
    private readonly bool _baseIsFourBit;
    private readonly LinearLayers _linear;

    /// <summary>Decides for one merge.</summary>
    public FourBitSelection(MergePlan merge, FourBitRequest request)
    {
        _merge = merge;
        _request = request;
        _config = merge.Base.Config;
        _baseIsFourBit = merge.Tensors.Any(t => t.Source is FourBitSource);
        _linear = new LinearLayers(_config);
    }

    private FourBitCodes Codes => _request.Codes ?? FourBitCodes.Of(Own("bnb_4bit_quant_type") ?? "nf4");

    private bool Nested =>
        _request.DoubleQuantization ?? (_baseIsFourBit ? _config.Quantization!.Bool("bnb_4bit_use_double_quant") ?? false : true);

    public override string Quantized => "4-bit";

    public override TensorSink? For(LogicalTensor tensor, TensorType type)
    {
        var quantized = _baseIsFourBit
            ? tensor.Source is FourBitSource || (tensor.Action == TensorAction.Replace && _linear.Contains(tensor))
            : _linear.Contains(tensor);
        var block = _request.BlockSize ?? (tensor.Source as FourBitSource)?.BlockSize ?? 64;
        return quantized && type.IsHalfWidthFloat()
            ? new FourBitSink(tensor.Name, tensor.Shape, new FourBitOptions(Codes, block, Nested, type))
            : null;
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

    private string? Own(string key) => _baseIsFourBit ? _config.Quantization!.String(key) : null;

    // Transformers leaves the head alone by itself if nothing is named; towers of linear layers must be named, or a loader would expect
    // them quantized. Lists of other methods may hold patterns, which bitsandbytes' has not.
    private JsonArray? SkipList()
    {
        var own = _config.Quantization?.Strings("llm_int8_skip_modules") ?? [];
        var others = own.Count > 0 ? [] : _linear.SkippedAmong(_merge.Tensors).ToList();
        var towers = _config.ToJson() is var json && (json.ContainsKey("vision_config") || json.ContainsKey("audio_config"))
            ? new[]
            {
                "lm_head", "multi_modal_projector", "merger", "modality_projection", "router", "visual", "vision_tower", "vision_model",
                "audio_tower",
            }
            : [];
        var all = own.Concat(others.Count > 0 ? others.Prepend("lm_head") : []).Concat(_baseIsFourBit ? [] : towers).Distinct().ToList();
        return all.Count == 0 ? null : [.. all.Select(s => (JsonNode)s)];
    }
}
