using Microsoft.ML.Tokenizers;

namespace UnslothMerge.Tokenizers;

/// <summary>What became of a sample: it passed if the text came back and the embedding has a row for every id; null if that could not be
/// checked.</summary>
internal sealed record RoundTripResult(bool? Passed, string Detail);

/// <summary>Encodes a sample and decodes the ids: a vocabulary that is damaged, or whose merges belong to another, does not give the text
/// back.</summary>
internal static partial class RoundTrip
{
    private const string Sample = "The rain in Spain, 3.14 = π; Grüße, 你好 🙂\n\tif (x) { return; }";

    // For vocabularies that need not have every character. Lower case, because some normalize to it.
    private const string PlainSample = "hello world, this is a test.";
    private const char Space = '\u2581';

    private static readonly string ByteLevelSample = ByteLevel(Encoding.UTF8.GetBytes(Sample));
    private static readonly string MarkedSample = PlainSample.Replace(' ', Space);
    private static readonly byte[] Spelled = Encoding.UTF8.GetBytes($"{ByteLevelSample} {MarkedSample}");

    /// <summary>True if a text in UTF-8 is a part of a sample as the tokens of byte-pair vocabularies spell it.</summary>
    public static bool Occurs(ReadOnlySpan<byte> token) => Spelled.AsSpan().IndexOf(token) >= 0;

    public static bool Occurs(string token) => Occurs(Encoding.UTF8.GetBytes(token));

    /// <summary>Bytes as GPT-2's vocabulary spells them: those that print as themselves, the others by the characters from U+0100
    /// on.</summary>
    public static string ByteLevel(ReadOnlySpan<byte> bytes)
    {
        var text = new StringBuilder(bytes.Length);
        foreach (var b in bytes)
        {
            text.Append((char)(b < 33 ? 256 + b : b is >= 127 and <= 160 ? 162 + b : b == 173 ? 323 : b));
        }

        return text.ToString();
    }

    /// <summary>Runs a tokenizer, given its files (relative path → file) and what its vocabulary has of the samples. The rows are those of
    /// the embedding; null if they are not known.</summary>
    public static RoundTripResult Run(VocabularyFile file, IReadOnlyDictionary<string, string> files, BytePairs pairs, long? rows)
    {
        try
        {
            switch (file.Name)
            {
                case "tokenizer.json" when pairs.HasMerges && !pairs.HasAffixes:
                    return RunPairs(pairs, pairs.IsByteLevel, rows);
                case "vocab.json" when files.TryGetValue("merges.txt", out var merges):
                    var lines = FolderFile.ReadLines(merges)
                        .Where(l => l.Length > 0 && !l.StartsWith("#version", StringComparison.Ordinal));
                    foreach (var line in lines)
                    {
                        pairs.AddMerge(line);
                    }

                    return RunPairs(pairs, isByteLevel: true, rows);
                case var name when name == "tiktoken.model" || name.EndsWith(".tiktoken", StringComparison.Ordinal):
                    return Run(TiktokenTokenizer.Create(file.Path, Whole(), null), Sample, rows);
                case var name when name.EndsWith(".model", StringComparison.Ordinal):
                    return RunSentencePiece(file.Path, rows);
                default:
                    return new RoundTripResult(null, $"a vocabulary of this kind in {file.Name} cannot be run here");
            }
        }
        catch (Exception e) when (VocabularyFile.IsDamage(e))
        {
            // The vocabulary itself has been read: what is left is a kind that the library does not know.
            return new RoundTripResult(null, $"{file.Name} cannot be run here: {e.Message}");
        }
    }

    private static RoundTripResult RunPairs(BytePairs pairs, bool isByteLevel, long? rows)
    {
        var (sample, spelled) = isByteLevel ? (Sample, ByteLevelSample) : (MarkedSample, MarkedSample);
        if (spelled.Any(c => !pairs.Tokens.ContainsKey($"{c}")))
        {
            return new RoundTripResult(null, "the vocabulary does not have every character of the sample");
        }

        var merges = pairs.Merges.Where(m => spelled.Contains(m.Left + m.Right, StringComparison.Ordinal)).Distinct().ToList();
        foreach (var (left, right) in merges)
        {
            if (new[] { left, right, left + right }.FirstOrDefault(t => !pairs.Tokens.ContainsKey(t)) is { } token)
            {
                return new RoundTripResult(
                    false, $"The merges of the tokenizer belong to another vocabulary: '{token}' of '{left} {right}' is not in this one.");
            }
        }

        if (pairs.Tokens.GroupBy(t => t.Value).FirstOrDefault(g => g.Count() > 1) is { } shared)
        {
            var tokens = string.Join(" and ", shared.Select(t => $"'{t.Key}'"));
            return new RoundTripResult(false, $"The tokenizer does not give a text back: {tokens} have the same id {shared.Key}.");
        }

        var options = new BpeOptions(pairs.Tokens)
        {
            Merges = merges.Select(m => $"{m.Left} {m.Right}"),
            ByteLevel = isByteLevel,
            PreTokenizer = Whole(),
        };
        return Run(BpeTokenizer.Create(options), sample, rows);
    }

    private static RoundTripResult RunSentencePiece(string path, long? rows)
    {
        using var stream = new MemoryStream(FolderFile.ReadAllBytes(path));
        var tokenizer = SentencePieceTokenizer.Create(stream, addBeginningOfSentence: false, addEndOfSentence: false);
        return tokenizer.EncodeToIds(PlainSample).Contains(tokenizer.UnknownId)
            ? new RoundTripResult(null, "the vocabulary does not have every character of the sample")
            : Run(tokenizer, PlainSample, rows);
    }

    private static RoundTripResult Run(Tokenizer tokenizer, string sample, long? rows)
    {
        var ids = tokenizer.EncodeToIds(sample);
        var text = tokenizer.Decode(ids)?.Trim();
        return text != sample
            ? new RoundTripResult(false, $"The tokenizer does not give a text back: the sample '{sample}' came back as '{text}'.")
            : ids.Max() >= rows
            ? new RoundTripResult(false, $"The tokenizer encodes a sample with the id {ids.Max()}, but the embedding has {rows} rows.")
            : new RoundTripResult(true, $"a sample came back from {ids.Count} tokens");
    }

    // How words are told apart does not matter to whether a text comes back, and not every pattern means the same to .NET.
    private static RegexPreTokenizer Whole() => new(Everything(), null);

    [GeneratedRegex(".+", RegexOptions.Singleline)]
    private static partial Regex Everything();
}
