using UnslothMerge.Tokenizers;

namespace UnslothMerge.Verification;

/// <summary>Compares headers and configs of a saved model with the plan.</summary>
internal sealed class StructureChecks(MergePlan plan, IReadOnlyList<LogicalTensor> tensors, OutputModel output)
{
    private static readonly string[] StorageKeys = ["dtype", "torch_dtype", "quantization_config"];

    // TokenizerCheck compares these with the tokenizer.
    private static readonly string[] TokenKeys = [.. SpecialToken.Roles.Select(r => $"{r}_token_id")];

    private readonly bool _isComplete = tensors.Count == plan.Tensors.Count;

    private readonly bool _hasHalfWidth = plan.Tensors.Any(t => t.Type.IsHalfWidthFloat());

    private readonly List<(LogicalTensor Planned, TensorSource Saved)> _pairs =
        [.. tensors.Where(t => output.Sources.ContainsKey(t.Name)).Select(t => (t, output.Sources[t.Name]))];

    public IEnumerable<VerificationResult> Run() =>
        [Files(), .. output.HasIndex ? new[] { Index() } : [], Names(), DTypes(), Config(), .. Record()];

    private VerificationResult Files()
    {
        var index = output.HasIndex ? "with an index" : "no index needed";
        return Result(
            "Files",
            output.FileProblems,
            $"{Amount.Text(output.Files.Count, "file")} of weights, {index}, nothing missing, nothing left over");
    }

    private VerificationResult Index() =>
        Result("Index", output.IndexProblems, $"every tensor is where it says, in {Amount.Text(output.Files.Count, "shard")}");

    private VerificationResult Names()
    {
        var keepsQuantization = JsonNode.DeepEquals(output.Config?.Quantization, plan.Config.Quantization);
        var missing = tensors.Where(t => !output.Sources.ContainsKey(t.Name) && !(t.IsCacheScale && !keepsQuantization))
            .Select(t => t.Name).ToList();
        var unknown = output.Sources.Keys.Except(plan.Tensors.Select(t => t.Name)).ToList();
        var misshapen = _pairs.Where(p => !p.Planned.Shape.SequenceEqual(p.Saved.Shape)).ToList();
        IEnumerable<string> problems =
        [
            .. missing.Select(n => $"{n} is missing"),
            .. unknown.Select(n => $"{n} does not belong to the model"),
            .. misshapen.Select(p => $"{p.Planned.Name} is {p.Saved.Shape.Text()} instead of {p.Planned.Shape.Text()}"),
        ];
        var all = Amount.Text(plan.Tensors.Count, "tensor");
        return Result("Names", problems, $"{(_isComplete ? all : $"{tensors.Count} of {all}")}, as planned") with
        {
            Tensors = [.. missing, .. unknown, .. misshapen.Select(p => p.Planned.Name)],
        };
    }

    // A model keeps its dtypes (an F32 one becomes BF16), or has the one that its config names.
    private VerificationResult DTypes()
    {
        var stated = output.Config?.DType;
        var kept = _hasHalfWidth ? stated : TensorType.BF16;
        var (type, wrong) = new TensorType?[] { null, TensorType.BF16, TensorType.F16, TensorType.F32 }
            .Select(t => (Type: t, Wrong: _pairs.Where(p => p.Saved.Type != Expected(p.Planned, t)).ToList()))
            .MinBy(c => (c.Wrong.Count, (c.Type ?? kept) != stated));
        var problems = wrong.Select(p => $"{p.Planned.Name} is {p.Saved.Type} instead of {Expected(p.Planned, type)}");
        if (wrong.Count == 0 && type is { } t && stated is not null && t != stated && _pairs.Any(p => p.Planned.Type.IsPlainFloat()))
        {
            problems = [$"the tensors are {t}, but config.json says {stated.Value.TorchName()}"];
        }

        var formats = _pairs.GroupBy(p => p.Saved.Format).OrderByDescending(g => g.Count()).Select(g => $"{g.Count()} {g.Key}");
        return Result("DType", problems, string.Join(", ", formats)) with { Tensors = [.. wrong.Select(p => p.Planned.Name)] };
    }

    private TensorType Expected(LogicalTensor tensor, TensorType? type) =>
        !tensor.Type.IsPlainFloat() ? tensor.Type
            : type is { } all ? all
            : !_hasHalfWidth ? TensorType.BF16
            : tensor.Type == TensorType.F64 && tensor.Action != TensorAction.Copy ? TensorType.F32
            : tensor.Type;

    private VerificationResult Config()
    {
        if (output.Config is not { } config)
        {
            return new VerificationResult("Config", false, "config.json cannot be read");
        }

        var problems = new List<string>();
        var (actual, expected) = (Parsed(config.WithoutQuantization()), Parsed(plan.Config.WithoutQuantization()));
        var quantized = output.Sources.Values.Any(s => s.Verbatim is null);
        problems.AddRange(QuantizationProblems(config, quantized));
        if (output.FormatProblem is { } problem)
        {
            problems.Add(problem);
        }

        var (stated, rows) = (Vocabulary(actual), EmbeddingRows());
        problems.AddRange([.. VocabularyProblem(stated, Vocabulary(expected), rows), .. TieProblem(config)]);
        var different = Differences(expected, actual, "")
            .Where(d => !StorageKeys.Contains(d.Path.Split('.')[^1]) && !TokenKeys.Contains(d.Path)).ToList();
        problems.AddRange(different.Where(d => d.Path is not ("vocab_size" or "tie_word_embeddings")).Select(d => d.Text));
        if (problems.Count == 0)
        {
            problems.AddRange(different.Where(d => d.Path == "tie_word_embeddings").Select(d => d.Text));
        }

        var vocabulary = stated is null || rows is null ? ""
            : $", vocab_size {stated}{(stated == rows ? " = embedding rows" : $", {rows} embedding rows as in the base")}";
        return Result("Config", problems, $"{(quantized ? "a" : "no")} quantization_config{vocabulary}");
    }

    // Where two configs differ, at the innermost level.
    private static IEnumerable<(string Path, string Text)> Differences(JsonObject expected, JsonObject actual, string path) =>
        expected.Select(p => p.Key).Union(actual.Select(p => p.Key)).Where(k => !JsonNode.DeepEquals(expected[k], actual[k])).SelectMany(
            k => expected[k] is JsonObject before && actual[k] is JsonObject now
                ? Differences(before, now, $"{path}{k}.")
                : [(path + k, $"{path}{k} is {Short(actual[k])} instead of {Short(expected[k])}")]);

    // A quantization is said where the base says its own, if it is the base's, and else at the top; of plain numbers nowhere.
    // ModelOpt may say its own in a file beside the config, MLX under another key.
    private IEnumerable<string> QuantizationProblems(ModelConfig config, bool quantized)
    {
        var (found, before) = (Quantizations(config.ToJson(), "").ToList(), Quantizations(plan.Base.Config.ToJson(), "").ToList());
        return !quantized ? found.Select(f => $"{f.Path} was left behind, but no tensor is quantized")
                .Concat(found.Count == 0 && config.Quantization is not null
                    ? ["a quantization was left behind, but no tensor is quantized"] : [])
            : found.Count == 0 && before.Count == 0 && plan.Base.Config.Quantization is not null ? []
            : found.Count == 0 ? ["some tensors are quantized, but there is no quantization_config"]
            : found.Select(f => f.Path).SequenceEqual(before.Select(b => b.Path)) ? []
            : found is [{ Path: "quantization_config" }] && !before.Exists(b => JsonNode.DeepEquals(b.Config, found[0].Config)) ? []
            : [$"{string.Join(" and ", found.Select(f => f.Path))} should be {string.Join(" and ", before.Select(b => b.Path))}"];
    }

    private static IEnumerable<(string Path, JsonNode? Config)> Quantizations(JsonObject config, string path) => config.SelectMany(p =>
        p.Key == "quantization_config" ? [(path + p.Key, p.Value)]
        : p.Value is JsonObject part ? Quantizations(part, $"{path}{p.Key}.")
        : []);

    // A base may pad its embedding; the output may then, too.
    private IEnumerable<string> VocabularyProblem(long? stated, long? expected, long? rows) =>
        stated is not null && rows is not null && stated != rows && !(stated == expected && rows == PlannedEmbeddingRows())
            ? [$"vocab_size is {stated}, but the embedding has {rows} rows"]
        : stated != expected ? [$"vocab_size is {Text(stated)} instead of {Text(expected)}"]
        : [];

    private long PlannedEmbeddingRows() => plan.Tensors.First(t => TensorNames.IsInputEmbedding(t.Name)).Shape[0];

    private static string Text(long? size) => size?.ToString(CultureInfo.InvariantCulture) ?? "absent";

    private IEnumerable<string> TieProblem(ModelConfig config)
    {
        var head = output.Sources.Keys.Any(TensorNames.IsOutputHead);
        if (config.TiesWordEmbeddings != plan.Config.TiesWordEmbeddings)
        {
            return [config.TiesWordEmbeddings
                ? $"tie_word_embeddings is true, but {(head ? "head and embedding differ" : "the head is not the embedding")}"
                : $"tie_word_embeddings is false, but {(head ? "the head is the embedding" : "there is no head")}"];
        }

        return head == plan.Tensors.Any(t => TensorNames.IsOutputHead(t.Name)) || !_isComplete ? []
            : [head ? "there is a head that should be the embedding" : "the head is missing"];
    }

    private IEnumerable<VerificationResult> Record()
    {
        try
        {
            const string correct = $"{MergeRecord.FileName} names this base and these adapters";
            return File.Exists(Path.Combine(output.Path, MergeRecord.FileName))
                ? [Result("Record", MergeRecord.Differences(output.Path, plan), correct)] : [];
        }
        catch (MergeException e)
        {
            return [new VerificationResult("Record", false, e.Message)];
        }
    }

    private long? EmbeddingRows() => output.Sources.Where(s => TensorNames.IsInputEmbedding(s.Key)).Select(s => s.Value.Shape)
        .Where(shape => shape.Count == 2).Select(shape => (long?)shape[0]).FirstOrDefault();

    // A copy by way of text: DeepEquals finds a number that the plan has set different from the same number in a file.
    private static JsonObject Parsed(ModelConfig config)
    {
        var json = (JsonObject)JsonNode.Parse(config.ToJson().ToJsonString())!;
        foreach (var key in TokenKeys)
        {
            (json["text_config"] as JsonObject)?.Remove(key);
        }

        return json;
    }

    private static long? Vocabulary(JsonObject config) =>
        (long?)(config.Number("vocab_size") ?? (config["text_config"] as JsonObject)?.Number("vocab_size"));

    public static VerificationResult Result(string check, IEnumerable<string> problems, string correct)
    {
        var all = problems.ToList();
        var rest = all.Count > 3 ? $"; and {all.Count - 3} more" : "";
        return all.Count == 0 ? new VerificationResult(check, true, correct)
            : new VerificationResult(check, false, string.Join("; ", all.Take(3)) + rest);
    }

    private static string Short(JsonNode? node) =>
        node?.ToJsonString() is { } text ? (text.Length > 40 ? text[..39] + "…" : text) : "absent";
}
