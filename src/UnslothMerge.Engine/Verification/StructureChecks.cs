using System.Text.Json.Nodes;
using UnslothMerge.Adapters;
using UnslothMerge.Formats;
using UnslothMerge.Models;
using UnslothMerge.Planning;
using UnslothMerge.Safetensors;
using UnslothMerge.Tokenizers;

namespace UnslothMerge.Verification;

/// <summary>Is what was saved the planned model, as far as headers and configs tell?</summary>
internal sealed class StructureChecks(MergePlan plan, IReadOnlyList<LogicalTensor> tensors, OutputModel output)
{
    private static readonly string[] StorageKeys = ["dtype", "torch_dtype", "quantization_config"];

    // They follow the tokenizer, with which they are checked.
    private static readonly string[] TokenKeys = [.. SpecialToken.Roles.Select(r => $"{r}_token_id")];

    /// <summary>All of them.</summary>
    public IEnumerable<VerificationResult> Run() => [Files(), .. output.HasIndex ? new[] { Index() } : [], Names(), DTypes(), Config(), Adapters()];

    private VerificationResult Files() => Result(
        "Files",
        output.FileProblems,
        $"{Amount.Text(output.Files.Count, "file")} of weights, {(output.HasIndex ? "with an index" : "no index needed")}, nothing missing, nothing left over");

    private VerificationResult Index() => Result("Index", output.IndexProblems, $"every tensor is where it says, in {Amount.Text(output.Files.Count, "shard")}");

    private VerificationResult Names()
    {
        var missing = tensors.Where(t => !output.Sources.ContainsKey(t.Name)).Select(t => t.Name).ToList();
        var strange = output.Sources.Keys.Except(plan.Tensors.Select(t => t.Name)).ToList();
        var misshapen = Found().Where(t => !t.Tensor.Shape.SequenceEqual(t.Source.Shape)).ToList();
        IEnumerable<string> problems =
        [
            .. missing.Select(n => $"{n} is missing"),
            .. strange.Select(n => $"{n} does not belong to the model"),
            .. misshapen.Select(t => $"{t.Tensor.Name} is {t.Source.Shape.Text()} instead of {t.Tensor.Shape.Text()}"),
        ];
        var all = tensors.Count == plan.Tensors.Length ? Amount.Text(tensors.Count, "tensor") : $"{tensors.Count} of {Amount.Text(plan.Tensors.Length, "tensor")}";
        return Result("Names", problems, $"{all}, as planned") with { Tensors = [.. missing, .. strange, .. misshapen.Select(t => t.Tensor.Name)] };
    }

    // A model keeps its dtypes (an F32 one becomes BF16), or has the one that its config names.
    private VerificationResult DTypes()
    {
        var stated = output.Config?.DType;
        var (type, wrong) = new TensorType?[] { null, TensorType.BF16, TensorType.F16, TensorType.F32 }
            .Select(t => (Type: t, Wrong: Found().Where(f => f.Source.Type != Expected(f.Tensor, t)).ToList()))
            .MinBy(c => (c.Wrong.Count, (c.Type ?? Default(stated)) != stated));
        IEnumerable<string> problems = wrong.Select(f => $"{f.Tensor.Name} is {f.Source.Type} instead of {Expected(f.Tensor, type)}");
        if (wrong.Count == 0 && type is { } t && stated is not null && t != stated && Found().Any(f => f.Tensor.Type.IsPlainFloat()))
        {
            problems = [$"the tensors are {t}, but config.json says {stated.Value.TorchName()}"];
        }

        var formats = Found().GroupBy(f => f.Source.Format).OrderByDescending(g => g.Count()).Select(g => $"{g.Count()} {g.Key}");
        return Result("DType", problems, string.Join(", ", formats)) with { Tensors = [.. wrong.Select(f => f.Tensor.Name)] };
    }

    private VerificationResult Config()
    {
        if (output.Config is not { } config)
        {
            return new VerificationResult("Config", false, "config.json cannot be read");
        }

        var (actual, expected, problems) = (Parsed(config), Parsed(plan.Config), new List<string>());
        var quantized = output.Sources.Values.Any(s => s.Verbatim is null);
        if (quantized != (config.Quantization is not null))
        {
            problems.Add(quantized ? "some tensors are quantized, but there is no quantization_config" : "quantization_config was left behind, but no tensor is quantized");
        }

        if (output.FormatProblem is not null)
        {
            problems.Add(output.FormatProblem);
        }

        CompareVocabulary(config, problems);
        CompareTie(config, problems);
        var different = expected.Select(p => p.Key).Union(actual.Select(p => p.Key)).Except(StorageKeys).Except(TokenKeys).Where(k => !JsonNode.DeepEquals(expected[k], actual[k])).ToList();
        problems.AddRange(different.Except(["vocab_size", "tie_word_embeddings"]).Select(k => $"{k} is {Short(actual[k])} instead of {Short(expected[k])}"));
        if (different.Contains("tie_word_embeddings") && problems.Count == 0)
        {
            problems.Add($"tie_word_embeddings is {Short(actual["tie_word_embeddings"])} instead of {Short(expected["tie_word_embeddings"])}");
        }

        var vocabulary = Vocabulary(actual) is { } size && EmbeddingRows() is { } rows ? $", vocab_size {size}{(size == rows ? " = embedding rows" : $", {rows} embedding rows as in the base")}" : "";
        return Result("Config", problems, $"{(quantized ? "a" : "no")} quantization_config{vocabulary}");
    }

    // A base may pad its embedding; the output may then, too.
    private void CompareVocabulary(ModelConfig config, List<string> problems)
    {
        var (stated, expected) = (Vocabulary(Parsed(config)), Vocabulary(Parsed(plan.Config)));
        if (stated is not null && EmbeddingRows() is { } rows && stated != rows && !(stated == expected && rows == plan.Tensors.First(t => TensorNames.IsInputEmbedding(t.Name)).Shape[0]))
        {
            problems.Add($"vocab_size is {stated}, but the embedding has {rows} rows");
        }
        else if (stated != expected)
        {
            problems.Add($"vocab_size is {Text(stated)} instead of {Text(expected)}");
        }

        static string Text(long? size) => size?.ToString(System.Globalization.CultureInfo.InvariantCulture) ?? "absent";
    }

    private void CompareTie(ModelConfig config, List<string> problems)
    {
        var head = output.Sources.Keys.Any(TensorNames.IsOutputHead);
        var planned = plan.Tensors.Any(t => TensorNames.IsOutputHead(t.Name));
        if (config.TiesWordEmbeddings != plan.Config.TiesWordEmbeddings)
        {
            problems.Add(config.TiesWordEmbeddings
                ? $"tie_word_embeddings is true, but {(head ? "head and embedding are both stored and differ" : "the head is not the embedding")}"
                : $"tie_word_embeddings is false, but {(head ? "the head is the embedding" : "there is no head")}");
        }
        else if (head != planned && tensors.Count == plan.Tensors.Length)
        {
            problems.Add(head ? "there is a head that should be the embedding" : "the head is missing");
        }
    }

    // Every adapter tensor must be somewhere: read again from the adapter's own header.
    private VerificationResult Adapters()
    {
        var used = tensors.SelectMany(t => t.Terms.SelectMany(term => term.Term.Inputs).Concat(t.IsChanged ? t.Source.Inputs : [])).Select(Key)
            .Concat(plan.Targets.Where(t => t.Outcome is AdapterOutcome.BaseCopy or AdapterOutcome.NotNeeded || tensors.Count < plan.Tensors.Length || IsTiedHead(t.Tensor))
                .SelectMany(t => plan.Steps.Where(s => s.Adapter.Name == t.Adapter).SelectMany(s => t.Inputs.Select(i => (s.Adapter.Weights.Path, i)))))
            .ToHashSet();
        var (problems, found) = (new List<string>(), new List<string>());
        foreach (var adapter in plan.Steps.Select(s => s.Adapter).DistinctBy(a => a.Path))
        {
            var stored = AdapterDirectory.Open(adapter.Path).Weights.Tensors;
            problems.AddRange(stored.Where(t => !used.Contains((adapter.Weights.Path, t.Name))).Select(t => $"{t.Name} of '{adapter.Name}' is in no tensor"));
            var pairs = stored.Count(t => t.Name.Contains(".lora_A.", StringComparison.Ordinal));
            found.Add($"{Amount.Text(stored.Count, "tensor")} of '{adapter.Name}'{(pairs > 0 ? $" (LoRA on {Amount.Text(pairs, "module")})" : "")}");
        }

        return Result("Adapter", problems, found.Count == 0 ? "none: the base, converted" : $"all {string.Join(", ", found)} found their place") with { Tensors = [] };

        (string, string) Key(StoredTensor tensor) => (tensor.File.Path, tensor.Name);
    }

    // What an adapter says of a head that stays the embedding, it says of the embedding.
    private bool IsTiedHead(string? name) => name is not null && TensorNames.IsOutputHead(name) && plan.Config.TiesWordEmbeddings && plan.Tensors.All(t => t.Name != name);

    private IEnumerable<(LogicalTensor Tensor, TensorSource Source)> Found() =>
        tensors.Where(t => output.Sources.ContainsKey(t.Name)).Select(t => (t, output.Sources[t.Name]));

    private long? EmbeddingRows() => output.Sources.Where(s => TensorNames.IsInputEmbedding(s.Key) && s.Value.Shape.Count == 2).Select(s => (long?)s.Value.Shape[0]).FirstOrDefault();

    // Numbers that the plan has set are not of the type that numbers read from a file are.
    private static JsonObject Parsed(ModelConfig config)
    {
        var json = (JsonObject)JsonNode.Parse(config.ToJson().ToJsonString())!;
        foreach (var key in json["text_config"] is JsonObject ? TokenKeys : [])
        {
            ((JsonObject)json["text_config"]!).Remove(key);
        }

        return json;
    }

    private static long? Vocabulary(JsonObject config) => (long?)(config.Number("vocab_size") ?? (config["text_config"] as JsonObject)?.Number("vocab_size"));

    private TensorType? Default(TensorType? stated) => plan.Tensors.Any(t => t.Type.IsHalfWidthFloat()) ? stated : TensorType.BF16;

    private TensorType Expected(LogicalTensor tensor, TensorType? type)
    {
        var all32 = !plan.Tensors.Any(t => t.Type.IsHalfWidthFloat());
        return !tensor.Type.IsPlainFloat() ? tensor.Type
            : type ?? (all32 ? TensorType.BF16 : tensor.Type == TensorType.F64 && tensor.Action != TensorAction.Copy ? TensorType.F32 : tensor.Type);
    }

    private static VerificationResult Result(string check, IEnumerable<string> problems, string good)
    {
        var all = problems.ToList();
        return all.Count == 0 ? new VerificationResult(check, true, good) : new VerificationResult(check, false, $"{string.Join("; ", all.Take(3))}{(all.Count > 3 ? $"; and {all.Count - 3} more" : "")}");
    }

    private static string Short(JsonNode? node) => node?.ToJsonString() is { } text ? (text.Length > 40 ? text[..39] + "…" : text) : "absent";
}
