using System.Text.Json;
using System.Text.RegularExpressions;
using Microsoft.ML.Tokenizers;
using UnslothMerge.Models;

namespace UnslothMerge.Tokenizers;

/// <summary>What became of a sample that a tokenizer took apart and put together again.</summary>
/// <param name="Passed">True if it came back as it was; null if tokenizers of this kind cannot be run here.</param>
/// <param name="Detail">What was done, or why not.</param>
public sealed record RoundTripResult(bool? Passed, string Detail);

/// <summary>Runs a tokenizer on a sample: a vocabulary that is damaged, or whose merges belong to another, does not give the text back.</summary>
public static partial class RoundTrip
{
    private const string Sample = "Hello, world! 3.14 = π; Grüße, 你好 🙂\n\tif (x) { return; }";
    private const string PlainSample = "Hello world, this is a test.";
    private const char Space = '\u2581';
    private static readonly string[] ByteLevelParts = ["pre_tokenizer", "decoder"];

    /// <summary>Runs the tokenizer of a model directory.</summary>
    public static RoundTripResult Run(string directory) => Run(ModelFiles.TokenizerPaths(directory));

    /// <summary>Runs the tokenizer among the files of a model.</summary>
    /// <param name="files">Relative path → file.</param>
    public static RoundTripResult Run(IReadOnlyDictionary<string, string> files)
    {
        var file = VocabularyFile.Find(files);
        try
        {
            return (file?.Name, file?.Path) switch
            {
                (null, _) or (_, null) => new RoundTripResult(null, "There is no vocabulary."),
                ("tokenizer.json", var path) => RunTokenizerJson(path),
                ("vocab.json", var path) when files.TryGetValue("merges.txt", out var merges) => RunVocabularyJson(path, merges),
                ("tiktoken.model", var path) => RunTiktoken(path),
                (var name, var path) when name.EndsWith(".tiktoken", StringComparison.Ordinal) => RunTiktoken(path),
                (var name, var path) when name.EndsWith(".model", StringComparison.Ordinal) => RunSentencePiece(path),
                (var name, _) => new RoundTripResult(null, $"A vocabulary in {name} cannot be run here."),
            };
        }
        catch (Exception e) when (VocabularyFile.IsDamage(e))
        {
            return new RoundTripResult(false, $"'{file!.Path}' cannot be run: {e.Message}");
        }
    }

    private static RoundTripResult RunTokenizerJson(string path)
    {
        using var json = JsonDocument.Parse(File.ReadAllBytes(path));
        var model = json.RootElement.GetProperty("model");
        var isBpe = model.TryGetProperty("merges", out var merges);
        if (!isBpe || HasText(model, "end_of_word_suffix") || HasText(model, "continuing_subword_prefix"))
        {
            return new RoundTripResult(null, $"A vocabulary of the kind {(model.TryGetProperty("type", out var type) ? type.GetString() : "unknown")} cannot be run here.");
        }

        var vocabulary = model.GetProperty("vocab").EnumerateObject().ToDictionary(t => t.Name, t => t.Value.GetInt32(), StringComparer.Ordinal);
        var pairs = merges.EnumerateArray().Select(m => m.ValueKind == JsonValueKind.Array ? $"{m[0].GetString()} {m[1].GetString()}" : m.GetString()!).Distinct();
        return IsByteLevel(json.RootElement) ? RunByteLevel(vocabulary, pairs) : RunPlain(vocabulary, pairs);
    }

    private static RoundTripResult RunVocabularyJson(string path, string merges)
    {
        using var json = JsonDocument.Parse(File.ReadAllBytes(path));
        return RunByteLevel(
            json.RootElement.EnumerateObject().Select(t => KeyValuePair.Create(t.Name, t.Value.GetInt32())),
            File.ReadLines(merges).Where(l => l.Length > 0 && !l.StartsWith("#version", StringComparison.Ordinal)));
    }

    private static RoundTripResult RunByteLevel(IEnumerable<KeyValuePair<string, int>> vocabulary, IEnumerable<string> merges) =>
        Run(BpeTokenizer.Create(new BpeOptions(vocabulary) { Merges = merges, ByteLevel = true, PreTokenizer = Whole() }), Sample);

    // The spaces of a vocabulary that came from SentencePiece are written as a mark of their own.
    private static RoundTripResult RunPlain(Dictionary<string, int> vocabulary, IEnumerable<string> merges)
    {
        var sample = PlainSample.Replace(' ', Space);
        return sample.All(c => vocabulary.ContainsKey($"{c}"))
            ? Run(BpeTokenizer.Create(new BpeOptions(vocabulary) { Merges = merges, PreTokenizer = Whole() }), sample)
            : new RoundTripResult(null, "The vocabulary has no tokens for the characters of the sample.");
    }

    private static RoundTripResult RunTiktoken(string path) => Run(TiktokenTokenizer.Create(path, Whole(), null), Sample);

    private static RoundTripResult RunSentencePiece(string path)
    {
        using var stream = File.OpenRead(path);
        return Run(SentencePieceTokenizer.Create(stream, addBeginningOfSentence: false, addEndOfSentence: false), PlainSample);
    }

    private static RoundTripResult Run(Tokenizer tokenizer, string sample)
    {
        var ids = tokenizer.EncodeToIds(sample);
        var text = tokenizer.Decode(ids)?.TrimStart();
        return text == sample
            ? new RoundTripResult(true, $"A sample came back from {ids.Count} tokens.")
            : new RoundTripResult(false, $"The sample '{sample}' came back as '{text}'.");
    }

    private static bool IsByteLevel(JsonElement tokenizer) => ByteLevelParts.Any(part => tokenizer.TryGetProperty(part, out var steps) && Types(steps).Contains("ByteLevel"));

    private static IEnumerable<string?> Types(JsonElement step) => step.ValueKind switch
    {
        JsonValueKind.Object => step.EnumerateObject().SelectMany(p => p.Name == "type" ? [p.Value.GetString()] : Types(p.Value)),
        JsonValueKind.Array => step.EnumerateArray().SelectMany(Types),
        _ => [],
    };

    private static bool HasText(JsonElement json, string key) => json.TryGetProperty(key, out var value) && value.ValueKind == JsonValueKind.String && value.GetString() is not "";

    // How words are told apart does not matter to whether a text comes back, and not every pattern means the same to .NET.
    private static RegexPreTokenizer Whole() => new(Everything(), null);

    [GeneratedRegex(".+", RegexOptions.Singleline)]
    private static partial Regex Everything();
}
