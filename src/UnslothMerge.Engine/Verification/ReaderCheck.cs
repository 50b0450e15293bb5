using UnslothMerge.Verification.Placement;

namespace UnslothMerge.Verification;

/// <summary>Opens a quantized model as its readers do: transformers swaps the linear layers of the class, but for those that the skip list
/// names, and then loads; codes must be where it swaps, and nowhere else. vLLM joins some matrices, which have codes together or not at
/// all. Sources: transformers 5.24, <c>should_convert_module</c>; compressed-tensors 0.20; vLLM 0.32; the data of
/// <c>linears.json</c>.</summary>
internal sealed partial class ReaderCheck
{
    // What vLLM joins, in the order of the joined rows.
    private static readonly string[][] Sets =
    [
        ["q_proj", "k_proj", "v_proj"], ["query", "key", "value"], ["gate_proj", "up_proj"], ["w1", "w3"], ["in_proj_b", "in_proj_a"],
    ];

    private static readonly string[] Latent = ["q_a_proj", "kv_a_proj_with_mqa"];

    private readonly IReadOnlyDictionary<string, TensorSource> _tensors;
    private readonly RunningModel _model;
    private readonly JsonObject _class;
    private readonly bool _isFourBit;
    private readonly bool _isCompressed;
    private readonly long? _block;
    private readonly List<Entry> _skips;
    private readonly List<Entry> _fp32;

    private ReaderCheck(
        IReadOnlyDictionary<string, TensorSource> tensors, RunningModel model, JsonObject @class, JsonObject quantization)
    {
        (_tensors, _model, _class) = (tensors, model, @class);
        _isFourBit = quantization.String("quant_method") == "bitsandbytes";
        _block = quantization["weight_block_size"] is JsonArray and [JsonValue rows, ..] && rows.TryGetValue(out long number)
            && number > 0 ? number : null;
        _isCompressed = quantization.String("quant_method") == "compressed-tensors";
        var key = _isFourBit ? "llm_int8_skip_modules" : _isCompressed ? "ignore" : "modules_to_not_convert";
        var tied = (model.Class?["tied"] as JsonObject ?? []).SelectMany(p => new[] { p.Key, (string)p.Value! }).Select(ModuleOf);
        var skips = quantization[key] is not null ? quantization.Strings(key) : [.. tied, .. @class.Strings("head")];
        _skips = [.. skips.Select(s => _isCompressed ? Entry.OfCompressedTensors(s) : Entry.Of(s))];
        _fp32 = [.. @class.Strings("fp32").Select(Entry.Of)];
    }

    /// <summary>Checks an output; null if it is not quantized, or nothing is known of its class or method. What is wrong with the base in
    /// the same way is no failure.</summary>
    public static VerificationResult? Run(OutputModel output, ModelDirectory @base)
    {
        if (output.Config is not { } config || Of(config, output.Stored) is not { } check)
        {
            return null;
        }

        var before = Of(@base.Config, StoredFormats.Read(@base).ToDictionary(t => t.Name, t => t.Source, StringComparer.Ordinal));
        var known = before?.Problems().Select(p => p.Text).ToHashSet(StringComparer.Ordinal) ?? [];
        var problems = check.Problems().ToLookup(p => known.Contains(p.Text));
        var codes = check._tensors.Count(t => t.Value.Verbatim is null);
        return StructureChecks.Result(
            "Reader", problems[false].Select(p => p.Text),
            $"{Amount.Text(codes, "tensor")} with codes where {check._model.ClassName} takes them"
                + (problems[true].Any() ? $"; {problems[true].Count()} elsewhere, as in the base" : "")) with
        {
            Tensors = [.. problems[false].Select(p => p.Tensor).Distinct()],
        };
    }

    private static ReaderCheck? Of(ModelConfig config, IReadOnlyDictionary<string, TensorSource> tensors)
    {
        if (config.Quantization is not { } said || said.String("quant_method") is not ("bitsandbytes" or "fp8" or "compressed-tensors"))
        {
            return null;
        }

        var model = new RunningModel(config.ToJson(), tensors.ToDictionary(t => t.Key, t => t.Value.Shape));
        return model.ClassName is { } name && TransformersData.LinearsOf(name) is JsonObject known
            ? new ReaderCheck(tensors, model, known, said) : null;
    }

    private IEnumerable<(string Tensor, string Text)> Problems() =>
        _tensors.Where(t => t.Value.Shape.Count > 1).Select(t => (t.Key, Problem(t.Key, t.Value.Verbatim is null)!))
            .Where(p => p.Item2 is not null)
            .Concat(_skips.Exists(e => e.Text.Length == 0) ? [("", "an empty entry of the skip list skips every module")] : [])
            .Concat(Joined().SelectMany(OfJoined)).Concat(OfDivisors());

    private string? Problem(string tensor, bool hasCodes)
    {
        var (name, isConverted) = _model.RunsAs(tensor);
        var module = new[] { ModuleOf(name), $"{_model.Class?.String("prefix")}.{ModuleOf(name)}" }
            .FirstOrDefault(m => Has("linear", m) || Has("other", m) || Has("experts", m), ModuleOf(name));
        var isExperts = Has("experts", module);
        var isLinear = isExperts ? !_isFourBit
            : (Has("linear", module) || (_isFourBit && Has("other", module) && Conv1D().IsMatch(module))) && !isConverted;
        var isInFp32 = _fp32.Exists(e => e.Names(module) || e.Names($"{module}.weight"));
        var isSkipped = _skips.Exists(e => e.Names(module)) || (_isFourBit && isInFp32);
        return (hasCodes, isLinear) switch
        {
            (true, false) when isExperts => $"{tensor} has codes, but transformers 5 loads no experts in 4 bits",
            (true, false) => $"{tensor} has codes, but {module} of {_model.ClassName} is no nn.Linear that a reader swaps",
            (true, true) when isInFp32 => $"{tensor} has codes, but transformers keeps {module} in fp32",
            (true, true) when isSkipped => $"{tensor} has codes, but the skip list names {module}",
            (false, true) when !isSkipped => $"{tensor} has no codes, but the skip list does not name {module}",
            _ => null,
        };
    }

    // The matrices that vLLM joins: parts of a projection, and all of a layer's experts.
    private IEnumerable<IReadOnlyList<string>> Joined() => _tensors.Where(t => t.Value.Shape.Count == 2).Select(t => t.Key).GroupBy(t =>
    {
        var parts = t.Split('.');
        return Expert().Match(t) is { Success: true } expert ? expert.Groups[1].Value
            : parts is [.., var last, "weight"] && Array.Find(Sets, s => s.Contains(last)) is { } set
                ? string.Join('.', [.. parts[..^2], set[0]])
            : t;
    }).Where(g => g.Count() > 1).Select(g => g.OrderBy(PlaceOf).ToList());

    private IEnumerable<(string Tensor, string Text)> OfJoined(IReadOnlyList<string> set)
    {
        var codes = set.ToLookup(t => _tensors[t].Verbatim is null);
        if (!codes[true].Any())
        {
            return [];
        }

        if (codes[false].FirstOrDefault() is { } plain)
        {
            return [(plain, $"{plain} has no codes, but {codes[true].First()} has, and vLLM joins them")];
        }

        // Blocks may not reach from one part into the next: nor, of experts, the parts of gate and up.
        var ends = Expert().IsMatch(set[0]) ? set.Where(t => PlaceOf(t) >= 0) : set.SkipLast(1);
        return ends.Where(t => _block is { } block && _tensors[t].Shape[0] % block != 0)
            .Select(t => (t, $"{t} has {_tensors[t].Shape[0]} rows, no whole blocks of {_block}, and vLLM joins it with others"));
    }

    // vLLM has one global scale for what it joins: of experts, for the gate and up of each.
    private IEnumerable<(string Tensor, string Text)> OfDivisors()
    {
        using var files = new InputFiles();
        return [.. _tensors.Where(t => Divisor(t.Value) is not null).GroupBy(t =>
        {
            var parts = t.Key.Split('.');
            return Array.Find([.. Sets, Latent], s => s.Contains(parts[^2])) is { } set
                ? string.Join('.', [.. parts[..^2], set[0]]) : t.Key;
        }).Where(g => g.Select(t => BitConverter.ToSingle(files.ReadAll(Divisor(t.Value)!))).Distinct().Count() > 1)
            .Select(g => (
                g.First().Key, $"{string.Join(" and ", g.Select(t => t.Key))} have different global scales, and vLLM joins them"))];

        static StoredTensor? Divisor(TensorSource source) =>
            source.Inputs.FirstOrDefault(i => i.Name.EndsWith(".weight_global_scale", StringComparison.Ordinal));
    }

    private static int PlaceOf(string tensor) => tensor.Split('.')[^2] is var part && Array.Find(Sets, s => s.Contains(part)) is { } set
        ? Array.IndexOf(set, part) : -1;

    private bool Has(string kind, string module) => _class.Strings(kind).Contains(Number().Replace(module, "*"));

    private static string ModuleOf(string name) => name.EndsWith(".weight", StringComparison.Ordinal) ? name[..^".weight".Length] : name;

    [GeneratedRegex(@"(?<=\.)\d+(?=\.|$)")]
    private static partial Regex Number();

    [GeneratedRegex(@"^(.*\.experts)\.\d+\.[^.]+\.weight$")]
    private static partial Regex Expert();

    // GPT-2 and its relatives; bitsandbytes' reader swaps these too.
    [GeneratedRegex(@"\.(c_attn|q_attn|c_proj|c_fc)$")]
    private static partial Regex Conv1D();

    /// <summary>An entry of a list of modules, as one kind of reader takes it.</summary>
    private sealed record Entry(string Text, bool IsEnding, ForeignPattern? Pattern)
    {
        /// <summary>The whole name, or a pattern from the start.</summary>
        public static Entry OfCompressedTensors(string text) => new(
            text, false, text.StartsWith("re:", StringComparison.Ordinal) ? Compile(text, $"^(?:{text[3..]})") : null);

        /// <summary>The end of a name, or a pattern from the start up to a dot or the end.</summary>
        public static Entry Of(string text) => new(text, true, Compile(text, $@"^(?:{text})(?:(?<=\.)|(?=\.|$))"));

        public bool Names(string module) => Text.Length > 0
            && ((IsEnding ? module.EndsWith(Text, StringComparison.Ordinal) : module == Text) || Pattern?.IsMatch(module) == true);

        // What is no pattern is a part of a name.
        private static ForeignPattern? Compile(string text, string pattern)
        {
            try
            {
                return new ForeignPattern(pattern, MergeError.InvalidModel, $"'{text}' of a skip list");
            }
            catch (MergeException)
            {
                return null;
            }
        }
    }
}
