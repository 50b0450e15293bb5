namespace UnslothMerge.Models;

/// <summary>What a tensor's name says about its place in the model.</summary>
internal static partial class TensorNames
{
    private static readonly string[] InputEmbeddings =
        ["embed_tokens", "wte", "word_embeddings", "embed_in", "shared", "tok_embeddings", "embeddings"];
    private static readonly string[] OutputHeads = ["lm_head", "embed_out"];

    /// <summary>The layer's number, or null outside the layers: 3 for <c>model.layers.3.mlp.up_proj.weight</c>.</summary>
    public static int? Layer(string name)
    {
        var match = LayerPattern().Match(name);
        return match.Success ? int.Parse(match.Groups["n"].ValueSpan, System.Globalization.CultureInfo.InvariantCulture) : null;
    }

    /// <summary>The name of the same tensor in another layer.</summary>
    public static string WithLayer(string name, int layer)
    {
        var number = LayerPattern().Match(name).Groups["n"];
        return $"{name[..number.Index]}{layer}{name[(number.Index + number.Length)..]}";
    }

    /// <summary>The module within its layer, or the whole path outside the layers: <c>mlp.up_proj</c>.</summary>
    public static string Module(string name)
    {
        var path = name[..Math.Max(name.LastIndexOf('.'), 0)];
        var match = LayerPattern().Match(name);
        return match.Success && match.Index + match.Length <= path.Length ? path[(match.Index + match.Length)..] : path;
    }

    /// <summary>The module that a tensor belongs to, or the one around a module.</summary>
    public static string ModuleOf(string name) => name[..Math.Max(0, name.LastIndexOf('.'))];

    /// <summary>The part of a multi-modal model: <c>vision</c>, <c>audio</c>, <c>projector</c> or <c>text</c>.</summary>
    public static string Component(string name) =>
        ProjectorPattern().IsMatch(name) ? "projector"
        : VisionPattern().IsMatch(name) ? "vision"
        : AudioPattern().IsMatch(name) ? "audio"
        : "text";

    /// <summary>True for the weight of the token embedding.</summary>
    public static bool IsInputEmbedding(string name) => IsWeightOf(name, InputEmbeddings);

    /// <summary>The token embedding of a model's language part among its tensors; null if there is none.</summary>
    public static string? TextEmbedding(IEnumerable<string> names) =>
        names.Where(n => IsInputEmbedding(n) && Component(n) == "text").MinBy(n => n.Length);

    /// <summary>True for the weight of the language-model head.</summary>
    public static bool IsOutputHead(string name) => IsWeightOf(name, OutputHeads);

    private static bool IsWeightOf(string name, string[] modules)
    {
        if (!name.EndsWith(".weight", StringComparison.Ordinal))
        {
            return false;
        }

        var module = name.AsSpan(0, name.Length - ".weight".Length);
        module = module[(module.LastIndexOf('.') + 1)..];
        foreach (var one in modules)
        {
            if (module.SequenceEqual(one))
            {
                return true;
            }
        }

        return false;
    }

    [GeneratedRegex(@"(^|\.)(layers|layer|h|blocks|block)\.(?<n>\d{1,6})\.", RegexOptions.ExplicitCapture)]
    private static partial Regex LayerPattern();

    // What lies between a tower and the language model; embed_vision and embed_audio are gemma3n's, mlp_AR paddleocr_vl's, mlp1 InternVL's.
    [GeneratedRegex(@"projector|connector|(^|\.)(embed_vision|embed_audio|mlp_AR|mlp1)\.", RegexOptions.ExplicitCapture)]
    private static partial Regex ProjectorPattern();

    [GeneratedRegex(
        @"(^|\.)(visual|vision|vision_(tower|model|encoder|embed_tokens)|(image|video)_tower|image_(encoder|newline)|vqmodel|vit)(\.|$)",
        RegexOptions.ExplicitCapture)]
    private static partial Regex VisionPattern();

    [GeneratedRegex(@"(^|\.)(audio|audio_tower|audio_model|speech_encoder)\.", RegexOptions.ExplicitCapture)]
    private static partial Regex AudioPattern();
}
