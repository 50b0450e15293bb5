using UnslothMerge.Models;

namespace UnslothMerge.Planning;

/// <summary>
/// The tensors that a quantization of a whole model takes: the linear layers of the language model, but for those that the base itself
/// keeps in 16 bits. Source: transformers' quantizers; Unsloth's list of modules to skip.
/// </summary>
internal sealed class LinearLayers(ModelConfig config)
{
    // The lists of the various methods.
    private static readonly string[] SkipKeys = ["llm_int8_skip_modules", "modules_to_not_convert", "ignore"];

    // Modules that are not linear layers of the language model, by a part of their path.
    private static readonly string[] SkippedParts =
    [
        "lm_head", "embed_out", "score", "classifier", "router", "gate", "shared_expert_gate", "multi_modal_projector", "merger",
        "modality_projection", "visual", "vision_tower", "vision_model", "audio_tower", "audio_model", "mamba",
        "relative_attention_bias", "wte", "wpe", "shared", "embed_tokens", "embed_in", "embed_positions",
        "word_embeddings", "position_embeddings", "token_type_embeddings",
    ];

    /// <summary>The modules that the base keeps in 16 bits, as its config names them.</summary>
    public IReadOnlyList<string> Skipped { get; } = [.. SkipKeys.SelectMany(k => config.Quantization?.Strings(k) ?? []).Distinct()];

    /// <summary>True if a tensor is taken.</summary>
    public bool Contains(LogicalTensor tensor) => IsLinear(tensor) && !Skips(tensor.Name);

    /// <summary>The linear layers that are not taken, by name: not every loader knows patterns.</summary>
    public IEnumerable<string> SkippedAmong(IEnumerable<LogicalTensor> tensors) =>
        tensors.Where(t => IsLinear(t) && Skips(t.Name)).Select(t => ModuleOf(t.Name));

    /// <summary>The module that a tensor belongs to.</summary>
    public static string ModuleOf(string name) => name[..Math.Max(0, name.LastIndexOf('.'))];

    /// <summary>True if the base keeps a tensor in 16 bits: a list may name its module or one around it, by the whole path or its end, with
    /// <c>*</c> or as <c>re:</c>.</summary>
    public bool Skips(string name)
    {
        var module = ModuleOf(name);
        return Skipped.Any(s => s.StartsWith("re:", StringComparison.Ordinal)
            ? Regex.IsMatch(module, $"^(?:{s[3..]})", RegexOptions.CultureInvariant)
            : Regex.IsMatch(
                module, $@"(^|\.){Regex.Escape(s).Replace(@"\*", ".*", StringComparison.Ordinal)}(\.|$)", RegexOptions.CultureInvariant));
    }

    private static bool IsLinear(LogicalTensor tensor) =>
        tensor.Shape.Count == 2
        && tensor.Type.IsPlainFloat()
        && tensor.Name.EndsWith(".weight", StringComparison.Ordinal)
        && !tensor.Name.Split('.')
            .Any(p => SkippedParts.Contains(p, StringComparer.Ordinal) || p.Contains("norm", StringComparison.Ordinal));
}
