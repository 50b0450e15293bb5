using UnslothMerge.Tests.Tokenizers;

namespace UnslothMerge.Tests.Fuzzing;

/// <summary>A kind of foreign file: the golden cases that have one, its files by their paths, and what is added to a base to have one.
/// </summary>
internal sealed partial record FuzzKind(string Name, Func<GoldenCase, bool> Cases, Regex Files, Action<string>? Add = null)
{
    private const string Card =
        """
        ---
        license: mit   # as the base
        tags: [a, "b"]
        base_model:
        - org/name
        datasets:
          - d
        model-index: {name: x, results: []}
        ---
        # Title

        <!-- merge: begin (rewritten by every save) -->
        text
        <!-- merge: end -->
        """;

    private const string Generation = """{"eos_token_id": [2, 3], "bos_token_id": 1, "pad_token_id": 0, "max_length": 20}""";
    private const string Record =
        """
        {"version": "UnslothMerge 1.0.0", "base": {"id": "org/name", "commit": null, "header_sha256": "00",
        "merge": {"adapters": [{"sha256": "11"}]}}, "adapters": [{"id": null, "sha256": "22", "weight": 1.0}],
        "options": {"method": "merged_16bit", "dtype": "bfloat16"}}
        """;

    /// <summary>All kinds.</summary>
    public static IReadOnlyList<FuzzKind> All { get; } =
    [
        new("header", c => IsMerged(c) && !IsQuantized(c), Weights()),
        new("companions", c => IsMerged(c) && IsQuantized(c), BaseWeights()),
        new("index", c => Has(c, "*.index.json"), Index()),
        new("config", IsMerged, Config()),
        new("adapter_config", c => Has(c, "*.json", ofAdapters: true), AdapterConfigs()),
        new("pickle", c => Has(c, "*.bin"), Pickles()),
        new("tokenizer", c => c.Folder.EndsWith("lora-all-linear", StringComparison.Ordinal), TokenizerFiles(), AddTokenizers),
        new("merge.json", c => c.Folder.EndsWith("lora-all-linear", StringComparison.Ordinal), Records(),
            d => TinyTokenizer.Write(d, MergeRecord.FileName, Record)),
        new("card", c => c.Folder.EndsWith("lora-all-linear", StringComparison.Ordinal), Cards(),
            d => TinyTokenizer.Write(d, "README.md", Card)),
    ];

    public override string ToString() => Name;

    private static bool IsMerged(GoldenCase @case) => @case.Outcome is "merged" or "quantized" && @case.Adapters.Count > 0
        && File.Exists(Path.Combine(@case.Base, "config.json"));

    private static bool IsQuantized(GoldenCase @case) => ModelDirectory.Open(@case.Base).Config.Quantization is not null;

    private static bool Has(GoldenCase @case, string pattern, bool ofAdapters = false) => IsMerged(@case)
        && @case.Adapters.Select(a => a.Path).Prepend(@case.Base).Skip(ofAdapters ? 1 : 0)
            .Any(d => Directory.EnumerateFiles(d, pattern, SearchOption.AllDirectories).Any());

    // A tokenizer of every kind: which of them is read depends on those that are lacking or damaged.
    private static void AddTokenizers(string directory)
    {
        TinyTokenizer.Fast(directory, eos: "</s>", added: ["</s>", "<s>"], template: "{{ messages }}");
        TinyTokenizer.Write(directory, "generation_config.json", Generation);
        TinyTokenizer.Write(directory, "added_tokens.json", """{"<x>": 261}""");
        TinyTokenizer.Write(directory, "special_tokens_map.json", """{"bos_token": {"content": "<s>"}, "pad_token": "<x>"}""");
        TinyTokenizer.Write(directory, "vocab.json", TinyTokenizer.Ids(TinyTokenizer.ByteLevel).ToJsonString());
        TinyTokenizer.Write(directory, "merges.txt", string.Join('\n', TinyTokenizer.Merges.Prepend("#version: 0.2")));
        TinyTokenizer.Write(directory, "vocab.txt", "[PAD]\n[UNK]\nhello\nworld");
        TinyTokenizer.Write(directory, "x.tiktoken", string.Join('\n', Enumerable.Range(0, 256)
            .Select(i => $"{Convert.ToBase64String([(byte)i])} {i}")));
        TinyTokenizer.Write(directory, "tekken.json", """{"config": {"default_vocab_size": 300}, "vocab": []}""");
        TinyTokenizer.SentencePiece(Path.Combine(directory, "tokenizer.model"), "hello world, this is a test.\u2581");
        TinyTokenizer.Write(directory, "modules.json", """[{"path": "1_Pooling"}, {"path": ""}]""");
    }

    [GeneratedRegex(@"\.safetensors$")]
    private static partial Regex Weights();

    [GeneratedRegex(@"/base/.*(\.safetensors|config\.json)$", RegexOptions.ExplicitCapture)]
    private static partial Regex BaseWeights();

    [GeneratedRegex(@"\.index\.json$")]
    private static partial Regex Index();

    [GeneratedRegex("/base/config.json$")]
    private static partial Regex Config();

    [GeneratedRegex(@"/adapter\d/.*\.json$")]
    private static partial Regex AdapterConfigs();

    [GeneratedRegex(@"\.bin$")]
    private static partial Regex Pickles();

    [GeneratedRegex(@"/base/(?!config\.json|.*safetensors)")]
    private static partial Regex TokenizerFiles();

    [GeneratedRegex("/merge.json$")]
    private static partial Regex Records();

    [GeneratedRegex("README.md$")]
    private static partial Regex Cards();
}
