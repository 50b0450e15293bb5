using System.IO.Enumeration;

namespace UnslothMerge.Models;

/// <summary>The files that make up a model directory, by name. What no pattern knows belongs to somebody else.</summary>
public static class ModelFiles
{
    /// <summary>The tokenizer and all that belongs to it: an adapter's own set takes the place of the base's.</summary>
    private static readonly string[] TokenizerPatterns =
    [
        "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt",
        "tokenizer.model*", "spiece.model", "*.bpe.model", "source.spm", "target.spm", "*.tiktoken", "tekken.json", "chat_template.*", "additional_chat_templates/*",
    ];

    /// <summary>The files that hold a vocabulary: with one of them a tokenizer is complete.</summary>
    private static readonly string[] VocabularyPatterns = ["tokenizer.json", "tokenizer.model", "spiece.model", "*.bpe.model", "vocab.*", "*.tiktoken", "tekken.json"];

    /// <summary>Everything else that is carried over from the base: it describes the model but not its weights.</summary>
    private static readonly string[] CarriedPatterns =
    [
        "generation_config.json", "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json", "image_processor.json", "feature_extractor.json",
        "configuration.json", "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "1_Pooling/*", "params.json", "id2label.json", "label2id.json",
        "*.py", "LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*", "COPYING*", "THIRD_PARTY*",
    ];

    /// <summary>The files that a save writes itself, and the weights in every form: never carried over.</summary>
    private static readonly string[] WrittenPatterns =
    [
        "config.json", "README.md", "*.safetensors", "*.safetensors.index*.json", "adapter_config.json", "adapter_model.bin", "pytorch_model*.bin", "pytorch_model*.bin.index.json",
        ".gitattributes", ".cache/huggingface/*",
    ];

    /// <summary>The tokenizer files of a directory, by relative path.</summary>
    public static IReadOnlyList<string> Tokenizer(string directory) => [.. Files(directory).Where(f => Matches(f, TokenizerPatterns))];

    /// <summary>The tokenizer files of a directory: relative path → file.</summary>
    public static IReadOnlyDictionary<string, string> TokenizerPaths(string directory) => Tokenizer(directory).ToDictionary(f => f, f => Path.Combine(directory, f), StringComparer.Ordinal);

    /// <summary>True if a directory has a whole tokenizer, not only a template or a config.</summary>
    public static bool HasTokenizer(string directory) => Files(directory).Any(f => Matches(f, VocabularyPatterns));

    /// <summary>The files that a merged model takes over from its base beside the tokenizer, by relative path.</summary>
    public static IReadOnlyList<string> Carried(string directory) => [.. Files(directory).Where(f => Matches(f, CarriedPatterns))];

    /// <summary>The files of a directory that do not belong to a model, by relative path.</summary>
    public static IReadOnlyList<string> Unknown(string directory) =>
        [.. Files(directory).Where(f => !Matches(f, TokenizerPatterns) && !Matches(f, CarriedPatterns) && !Matches(f, WrittenPatterns))];

    private static IEnumerable<string> Files(string directory) =>
        Directory.EnumerateFiles(directory, "*", new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = 0, ReturnSpecialDirectories = false })
            .Select(f => Path.GetRelativePath(directory, f).Replace('\\', '/'))
            .Order(StringComparer.Ordinal);

    // A pattern without a slash knows files at the top only; '*' at the end of one with a slash spans what lies below.
    private static bool Matches(string file, string[] patterns) =>
        patterns.Any(p => (p.Contains('/', StringComparison.Ordinal) || p == "*.py" || !file.Contains('/', StringComparison.Ordinal)) && FileSystemName.MatchesSimpleExpression(p, file));
}
