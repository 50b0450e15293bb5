using System.IO.Enumeration;

namespace UnslothMerge.Models;

/// <summary>The files that make up a model directory, by name. What no pattern knows belongs to somebody else.</summary>
internal static class ModelFiles
{
    /// <summary>The tokenizer and all that belongs to it: a set of which no part goes with a part of another.</summary>
    private static readonly string[] TokenizerPatterns =
    [
        "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.*", "*-vocab.json",
        "*_vocab.json", "vocab-*.json", "merges.txt", "bpe.codes", "normalizer.json",
        "*.model", "tokenizer.model*", "*.spm", "*.tiktoken", "tekken.json", "chat_template.*", "chat_templates/*",
        "additional_chat_templates/*", "tokenization_*.py",
    ];

    /// <summary>The files that hold a vocabulary: with one of them a tokenizer is complete.</summary>
    private static readonly string[] VocabularyPatterns = ["tokenizer.json", "*.model", "*.spm", "vocab.*", "*.tiktoken", "tekken.json"];

    /// <summary>Those that are not <c>tokenizer.json</c>, which holds all of them.</summary>
    private static readonly string[] OlderVocabularyPatterns = ["*.model", "*.spm", "vocab.*", "merges.txt", "*.tiktoken"];

    /// <summary>What turns images, sounds and videos into a model's input.</summary>
    private static readonly string[] ProcessorPatterns =
        ["*processor_config.json", "image_processor*.json", "feature_extractor*.json", "feature_extraction*.json",
            "audio_tokenizer_config.json", "*processing_*.py", "feature_extraction_*.py"];

    /// <summary>What quantizers write beside config.json; it goes with the base's own format.</summary>
    public static IReadOnlyList<string> Quantization { get; } =
        ["hf_quant_config.json", "quantization_config.json", "quantize_config.json", "quant_config.json"];

    /// <summary>Everything else that is carried over from the base: it describes the model but not its weights.</summary>
    private static readonly string[] CarriedPatterns =
    [
        "generation_config.json", "configuration.json", "modules.json", "sentence_*_config.json", "config_sentence_transformers.json",
        "id2label.json", "label2id.json",
        "*.py", "*LICENSE*", "*LICENCE*", "NOTICE*", "*USE_POLICY*", "COPYING*", "COPYRIGHT*", "AUTHORS*", "CITATION*", "THIRD_PARTY*",
    ];

    /// <summary>What other tools left behind: never carried over, though a pattern may know it.</summary>
    private static readonly string[] LeftBehindPatterns = [".*/*", "checkpoint-*/*", "original/*", "zero_to_fp32.py"];

    /// <summary>A model's config and weights.</summary>
    private static readonly string[] ModelPatterns =
    [
        "config.json", "model*.safetensors", "model*.safetensors.index*.json", "pytorch_model*.bin", "pytorch_model*.bin.index.json",
    ];

    private static readonly string[] AdapterPatterns = ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"];

    /// <summary>What lies beside the weights and may be replaced with them: what a save writes or takes over, and the Hub's own files.
    /// Narrower than what is taken over: there any Python file and any vocabulary may belong to the model.</summary>
    private static readonly string[] ReplacedPatterns =
    [
        "README.md", "merge.json", ".gitattributes", ".cache/huggingface/*", .. Quantization,
        .. TokenizerPatterns.Except(["vocab.*", "*.model", "*.spm", "*.tiktoken"]),
        "vocab.json", "vocab.txt", "vocab.bpe", "tiktoken.model", "spiece.model", "spm*.model", "sentencepiece*.model", "source.spm",
        "target.spm", "qwen.tiktoken",
        .. ProcessorPatterns,
        .. CarriedPatterns.Except(["*.py"]), "modeling_*.py", "configuration_*.py",
    ];

    /// <summary>The tokenizer files of a directory, by relative path.</summary>
    public static IReadOnlyList<string> Tokenizer(string directory) => [.. All(directory).Where(f => Matches(f, TokenizerPatterns))];

    /// <summary>The tokenizer files of a directory: relative path → file.</summary>
    public static IReadOnlyDictionary<string, string> TokenizerPaths(string directory) =>
        Tokenizer(directory).ToDictionary(f => f, f => Path.Combine(directory, f), StringComparer.Ordinal);

    /// <summary>True if a directory has a whole tokenizer, not only a template or a config.</summary>
    public static bool HasTokenizer(string directory) => All(directory).Any(f => Matches(f, VocabularyPatterns));

    /// <summary>The files of a directory that hold a vocabulary in an older form than <c>tokenizer.json</c>.</summary>
    public static IReadOnlyList<string> OlderVocabulary(string directory) =>
        [.. All(directory).Where(f => Matches(f, OlderVocabularyPatterns))];

    /// <summary>The processor files of a directory, by relative path.</summary>
    public static IReadOnlyList<string> Processor(string directory) => [.. All(directory).Where(f => Matches(f, ProcessorPatterns))];

    /// <summary>The files that a merged model takes over from its base beside the tokenizer, by relative path.</summary>
    public static IReadOnlyList<string> Carried(string directory)
    {
        string[] patterns = [.. CarriedPatterns, .. ProcessorPatterns, .. ModuleFolders(directory)];
        return [.. All(directory).Where(f => Matches(f, patterns) && !Matches(f, TokenizerPatterns) && !Matches(f, LeftBehindPatterns))];
    }

    /// <summary>True for a file that a merge reads of a base or takes over from it, beside the weights and the modules of
    /// sentence-transformers. The path is relative.</summary>
    public static bool IsRead(string file) =>
        Matches(file, ["config.json", CardText.FileName, "merge.json", AdapterPatterns[0], .. Quantization])
        || ((Matches(file, CarriedPatterns) || IsOfTokenizer(file)) && !Matches(file, LeftBehindPatterns));

    /// <summary>True for a file of a tokenizer or a processor.</summary>
    public static bool IsOfTokenizer(string file) => Matches(file, TokenizerPatterns) || Matches(file, ProcessorPatterns);

    /// <summary>The names of files that a reader asks a model for, whether or not it has them.</summary>
    public static IEnumerable<string> AskedFor { get; } =
        new[] { "config.json", "generation_config.json", "adapter_config.json", "model.safetensors" }
            .Concat(TokenizerPatterns.Where(p => !p.Contains('*', StringComparison.Ordinal)))
            .Concat(["chat_template.jinja", "preprocessor_config.json", "processor_config.json", "tokenizer.model"]).ToList();

    /// <summary>True if a directory holds a model (or an adapter): its config and weights.</summary>
    public static bool Is(string directory, bool isAdapter)
    {
        var files = All(directory).Where(f => Matches(f, isAdapter ? AdapterPatterns : ModelPatterns)).ToList();
        return files.Any(f => f.EndsWith("config.json", StringComparison.Ordinal))
            && files.Any(f => !f.EndsWith(".json", StringComparison.Ordinal));
    }

    /// <summary>What is no part of the model (or adapter) in a directory, by relative path: files, links to directories, and empty
    /// directories. What a save takes over from its inputs under the same name is no foreign file.</summary>
    public static IReadOnlyList<string> Foreign(string directory, bool isAdapter, IEnumerable<string> inputs)
    {
        string[] patterns = [.. isAdapter ? AdapterPatterns : ModelPatterns, .. ReplacedPatterns, .. ReadableModuleFolders(directory)];
        var carried = inputs.Where(Directory.Exists).SelectMany(i => Tokenizer(i).Concat(Carried(i))).ToHashSet(StringComparer.Ordinal);
        return [.. Entries(directory).Where(f => !carried.Contains(f) && !Matches(f, patterns))];
    }

    /// <summary>The modules that sentence-transformers runs after the model, as patterns of their files, weights included; the model itself
    /// has the empty path.</summary>
    public static IEnumerable<string> ModuleFolders(string directory)
    {
        var modules = Path.Combine(directory, "modules.json");
        return File.Exists(modules)
            ? JsonFile.Read<JsonArray>(modules, MergeError.InvalidModel).OfType<JsonObject>().Select(m => m.String("path"))
                .Where(p => !string.IsNullOrEmpty(p)).Select(p => $"{p}/*")
            : [];
    }

    // What is to be replaced may be damaged: then the folders of its modules are unknown.
    private static IEnumerable<string> ReadableModuleFolders(string directory)
    {
        try
        {
            return [.. ModuleFolders(directory)];
        }
        catch (MergeException)
        {
            return [];
        }
    }

    /// <summary>The files of a directory and those below it, by relative path. Links to directories are not followed.</summary>
    public static IEnumerable<string> All(string directory) =>
        Entries(directory).Where(e => !e.EndsWith('/') && !Directory.Exists(Path.Combine(directory, e)));

    // Files, links to directories, and empty directories, which end in a slash. Links to directories are not followed: they may lead
    // anywhere, and around.
    private static IEnumerable<string> Entries(string directory)
    {
        var root = Path.GetFullPath(directory);
        var options = new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = 0, IgnoreInaccessible = false };
        return new FileSystemEnumerable<string>(
            root, (ref e) => Path.GetRelativePath(root, e.ToFullPath()) + (IsFolder(ref e) ? "/" : ""), options)
        {
            ShouldRecursePredicate = IsFolder,
            ShouldIncludePredicate = (ref e) => !IsFolder(ref e) || !Directory.EnumerateFileSystemEntries(e.ToFullPath()).Any(),
        }.Select((f, i) => i < Limits.Files ? f.Replace('\\', '/') : throw new MergeException(
            MergeError.InvalidModel, $"'{directory}' holds more than {Limits.Files} files, which no model has.", directory,
            "Give the folder of one model.")).Order(StringComparer.Ordinal);
    }

    private static bool IsFolder(ref FileSystemEntry entry) =>
        entry.IsDirectory && !entry.Attributes.HasFlag(FileAttributes.ReparsePoint);

    /// <summary>True if one of the patterns knows a relative path. One without a slash knows files at the top only; '*' at the end of one
    /// with a slash spans what lies below.</summary>
    public static bool Matches(string file, string[] patterns) =>
        patterns.Any(p =>
            (p.Contains('/', StringComparison.Ordinal) || p == "*.py" || !file.Contains('/', StringComparison.Ordinal))
            && FileSystemName.MatchesSimpleExpression(p, file));
}
