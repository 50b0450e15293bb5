using UnslothMerge.Adapters;
using UnslothMerge.Hub;

namespace UnslothMerge.Planning;

/// <summary>Whether the base given is the one that an adapter names. A QLoRA adapter fits the quantized model it was trained on and the
/// 16-bit original; which of the two is used is the caller's choice, so it is said, and nothing is ever fetched in its place.</summary>
internal sealed partial record NamedBase(bool NeedsWarning, string Text)
{
    /// <summary>Compares the name in adapter_config.json with all names of the base; null if the adapter names none.</summary>
    public static NamedBase? Compare(ModelDirectory model, AdapterDirectory adapter)
    {
        if (adapter.Config.BaseModel is not { } name)
        {
            return null;
        }

        var quantization = model.Config.Quantization;
        var isQuantized = quantization is not null;
        var format = quantization is null
            ? $"{model.Config.DType?.ToString() ?? "plain"} weights"
            : $"weights dequantized from {Formats.StoredFormats.MethodOf(quantization)}";
        var used = $"The adapter '{adapter.Name}' names '{name}' as its base; it is merged into '{model.Path}' ({format})";
        if (model.Names.Any(n => Same(Last(n), Last(name))))
        {
            return new NamedBase(false, $"{used}, the base that it names.");
        }

        if (model.Names.Concat(model.QuantizedFrom).Any(n => Same(Stem(n), Stem(name))))
        {
            return NamesQuantized(name) == isQuantized ? new NamedBase(false, $"{used}, the same model by another name.")
                : isQuantized ? new NamedBase(true, $"{used}, the same model in another precision. {Precision}")
                : new NamedBase(false, $"{used}, the 16-bit form of that model, as usual after QLoRA.");
        }

        var other = HubName.IsOne(name) && model.HubId is { } id && !IsRenamed(Stem(id), Stem(name)) ? $"which calls itself '{id}'"
            : model.Names.FirstOrDefault(n => Contradicts(Stem(n), Stem(name))) is { } folder ? $"which is called '{Last(folder)}'"
            : ModelFamily.Differs(Last(name), model.Config) ? $"a model of the type {model.Config.ModelType}"
            : null;
        return other is not null
            ? new NamedBase(
                true,
                $"{used}, {other}: another model. Its shapes fit, but the deltas were made for other weights. Unless that is meant, give "
                + "the named base as -Base.")
            : NamesQuantized(name) && !isQuantized ? new NamedBase(false, $"{used}, taken for the 16-bit form of that model.")
            : new NamedBase(false, $"{used}. Nothing says whether that is the same model, but every shape fits.");
    }

    private const string Precision =
        "The deltas were trained against the weights of the base that it names; those of its quantized and its 16-bit form differ by the "
        + "quantization's error, so the merged model is not exactly the one that was trained. If the other form is meant, give it as "
        + "-Base.";

    private static readonly HashSet<string> Trained =
        ["instruct", "it", "chat", "coder", "code", "math", "vl", "vision", "thinking", "reasoning", "distill", "guard", "omni", "audio"];

    // 'Meta-Llama-3-8B' is 'llama-3-8b'; 'Llama-3-8B-Instruct' is not.
    private static bool IsRenamed(string a, string b) =>
        a.EndsWith("-" + b, StringComparison.OrdinalIgnoreCase) || b.EndsWith("-" + a, StringComparison.OrdinalIgnoreCase);

    // Both share a word, and sizes or kinds of training differ: 'Llama-3-8B' and 'Llama-3-8B-Instruct'. 'my-llama' says nothing.
    private static bool Contradicts(string folder, string name)
    {
        var (mine, named) = (Words(folder), Words(name));
        var (kinds, sizes) = (mine.Where(Trained.Contains).ToHashSet(), mine.Where(IsSize).ToHashSet());
        var (namedKinds, namedSizes) = (named.Where(Trained.Contains).ToList(), named.Where(IsSize).ToList());
        return kinds.Count + sizes.Count > 0
            && mine.Intersect(named).Except(Trained).Any(w => w.Length > 2 && char.IsLetter(w[0]))
            && (!kinds.SetEquals(namedKinds) || (sizes.Count > 0 && namedSizes.Count > 0 && !sizes.SetEquals(namedSizes)));

        static bool IsSize(string word) => SizePattern().IsMatch(word);
    }

    private static List<string> Words(string name) => [.. name.ToLowerInvariant().Split('-', '_', ' ')];

    private static bool Same(string a, string b) => a.Equals(b, StringComparison.OrdinalIgnoreCase);

    private static string Last(string name) => name.TrimEnd('/', '\\').Split('/', '\\')[^1];

    private static string Stem(string name) => PrecisionPattern().Replace(Last(name), "");

    /// <summary>A name without what says that it is a quantized copy.</summary>
    internal static string Unquantized(string name) => PrecisionPattern().Replace(name, "");

    internal static bool NamesQuantized(string name) =>
        PrecisionPattern().Match(Last(name)) is { Success: true } match && QuantizedPattern().IsMatch(match.Value);

    // How repositories of the same model in another precision are called: X-bnb-4bit, X-unsloth-bnb-4bit, X-GPTQ-Int4, X-FP8-Dynamic,
    // X-BF16 …
    [GeneratedRegex(
        "([-_.](unsloth|bnb|nf4|fp4|nvfp4|mxfp4|[48]bits?|16bits?|bf16|fp16|f16|int[48]|fp8|dynamic|gptq|awq|quantized|w[48]a(4|8|16)))+$",
        RegexOptions.IgnoreCase | RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant)]
    private static partial Regex PrecisionPattern();

    [GeneratedRegex(@"nf4|fp4|[48]bit|int[48]|fp8|gptq|awq|w[48]a", RegexOptions.IgnoreCase | RegexOptions.CultureInvariant)]
    private static partial Regex QuantizedPattern();

    [GeneratedRegex(@"^\d+(\.\d+)?[bm]$")]
    private static partial Regex SizePattern();
}
