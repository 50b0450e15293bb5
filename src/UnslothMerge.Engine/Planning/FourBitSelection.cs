using System.Text.Json.Nodes;
using UnslothMerge.Formats;
using UnslothMerge.Formats.BitsAndBytes;
using UnslothMerge.Models;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Planning;

/// <summary>What the caller wants of a 4-bit output; null leaves it to the base, or to Unsloth's defaults (NF4, double quantization, blocks of 64).</summary>
/// <param name="QuantType"><c>nf4</c> or <c>fp4</c>.</param>
/// <param name="DoubleQuantization">True to quantize the absmax values too.</param>
/// <param name="BlockSize">Elements that share one absmax: a power of two from 32 to 4096.</param>
/// <param name="ComputeType">The dtype in which a loaded model computes.</param>
public sealed record FourBitRequest(string? QuantType, bool? DoubleQuantization, int? BlockSize, TensorType? ComputeType);

/// <summary>
/// Which tensors become 4-bit, and how. On a 4-bit base those that were, with the base's own parameters; on any other the linear layers of the
/// language model: not the head, embeddings, norms, routers, nor the towers of other modalities. Source: transformers' bitsandbytes
/// integration; Unsloth's list of modules to skip.
/// </summary>
internal sealed class FourBitSelection
{
    // Modules that are not linear layers of the language model, by a part of their path.
    private static readonly string[] SkippedParts =
    [
        "lm_head", "embed_out", "score", "classifier", "router", "gate", "shared_expert_gate", "multi_modal_projector", "merger", "modality_projection", "visual", "vision_tower",
        "vision_model", "audio_tower", "audio_model", "mamba", "relative_attention_bias", "wte", "wpe", "shared", "embed_tokens", "embed_in", "embed_positions",
        "word_embeddings", "position_embeddings", "token_type_embeddings",
    ];

    private readonly FourBitRequest _request;
    private readonly ModelConfig _config;
    private readonly bool _baseIsFourBit;
    private readonly IReadOnlyList<string> _skipped;

    /// <summary>Decides for one merge.</summary>
    public FourBitSelection(MergePlan merge, FourBitRequest request)
    {
        _request = request;
        _config = merge.Base.Config;
        _baseIsFourBit = merge.Tensors.Any(t => t.Source is FourBitSource);
        _skipped = _config.Quantization?.Strings("llm_int8_skip_modules") ?? [];
    }

    private string QuantType => _request.QuantType ?? Own("bnb_4bit_quant_type") ?? "nf4";

    private bool Nested => _request.DoubleQuantization ?? (_baseIsFourBit ? _config.Quantization!.Bool("bnb_4bit_use_double_quant") ?? false : true);

    /// <summary>How a tensor is quantized; null if it stays as it is.</summary>
    /// <param name="tensor">The tensor.</param>
    /// <param name="type">The 16-bit dtype that it would have otherwise.</param>
    public FourBitOptions? For(LogicalTensor tensor, TensorType type)
    {
        var quantized = _baseIsFourBit ? tensor.Source is FourBitSource || (tensor.Action == TensorAction.Replace && !Skips(tensor.Name)) : IsLinear(tensor) && !Skips(tensor.Name);
        var block = _request.BlockSize ?? (tensor.Source as FourBitSource)?.BlockSize ?? 64;
        return quantized && type.IsHalfWidthFloat() ? new FourBitOptions(FourBitCodes.Of(QuantType), block, Nested, type) : null;
    }

    /// <summary>The <c>quantization_config</c> of the output, as transformers writes it.</summary>
    public JsonObject ToConfig(TensorType type) => new()
    {
        ["_load_in_4bit"] = true,
        ["_load_in_8bit"] = false,
        ["bnb_4bit_compute_dtype"] = _request.ComputeType?.TorchName() ?? Own("bnb_4bit_compute_dtype") ?? type.TorchName(),
        ["bnb_4bit_quant_storage"] = "uint8",
        ["bnb_4bit_quant_type"] = QuantType,
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

    // Transformers leaves the head alone by itself; towers of linear layers must be named, or a loader would expect them quantized.
    private JsonArray? SkipList()
    {
        var towers = _config.ToJson() is var json && (json.ContainsKey("vision_config") || json.ContainsKey("audio_config"))
            ? new[] { "lm_head", "multi_modal_projector", "merger", "modality_projection", "router", "visual", "vision_tower", "vision_model", "audio_tower" }
            : [];
        var all = _skipped.Concat(_baseIsFourBit ? [] : towers).Distinct().ToList();
        return all.Count == 0 ? null : [.. all.Select(s => (JsonNode)s)];
    }

    private bool Skips(string name)
    {
        var module = name[..Math.Max(0, name.LastIndexOf('.'))];
        return _skipped.Any(s => module == s || module.StartsWith(s + ".", StringComparison.Ordinal) || module.EndsWith("." + s, StringComparison.Ordinal) || module.Contains($".{s}.", StringComparison.Ordinal));
    }

    private static bool IsLinear(LogicalTensor tensor) =>
        tensor.Shape.Count == 2
        && tensor.Type.IsPlainFloat()
        && tensor.Name.EndsWith(".weight", StringComparison.Ordinal)
        && !tensor.Name.Split('.').Any(p => SkippedParts.Contains(p, StringComparer.Ordinal) || p.Contains("norm", StringComparison.Ordinal));
}
