using System.IO.Enumeration;
using Google.Protobuf;

namespace UnslothMerge.Tokenizers;

/// <summary>The file of a tokenizer that holds its vocabulary: its relative path, and where it is.</summary>
internal sealed record VocabularyFile(string Name, string Path)
{
    private delegate void Reader(string path, Vocabulary vocabulary);

    // In the order in which transformers prefers them.
    private static readonly (string Pattern, Reader Read)[] Table =
    [
        ("tokenizer.json", ReadTokenizerJson),
        ("vocab.json", ReadVocabularyJson),
        ("vocab.txt", ReadLines),
        ("*.tiktoken", ReadRanks),
        ("tiktoken.model", ReadRanks),
        ("*.model", ReadSentencePiece),
        ("tekken.json", ReadTekken),
    ];

    /// <summary>Finds it among a model's files; null if there is none.</summary>
    public static VocabularyFile? Find(IReadOnlyDictionary<string, string> files) =>
        Table.SelectMany(row => files.Where(f => Matches(row.Pattern, f.Key)))
            .Select(f => new VocabularyFile(f.Key, f.Value)).FirstOrDefault();

    /// <summary>True for the errors by which a damaged vocabulary shows.</summary>
    public static bool IsDamage(Exception e) =>
        e is IOException or UnauthorizedAccessException or JsonException or FormatException or OverflowException
            or InvalidOperationException or ArgumentException or NotSupportedException or KeyNotFoundException;

    /// <summary>Reads its tokens.</summary>
    public void Read(Vocabulary vocabulary) => Table.First(row => Matches(row.Pattern, Name)).Read(Path, vocabulary);

    private static bool Matches(string pattern, string name) =>
        !name.Contains('/', StringComparison.Ordinal) && FileSystemName.MatchesSimpleExpression(pattern, name);

    // The file of the tokenizers library: model.vocab is an object, or for Unigram a list of pieces with scores, whose places are the ids.
    private static void ReadTokenizerJson(string path, Vocabulary vocabulary)
    {
        var reader = new Utf8JsonReader(FolderFile.ReadAllBytes(path));
        Require(ref reader, JsonTokenType.StartObject);
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            if (reader.ValueTextEquals("model"))
            {
                ReadModel(ref reader, vocabulary);
            }
            else if (reader.ValueTextEquals("pre_tokenizer") || reader.ValueTextEquals("decoder"))
            {
                using var steps = JsonDocument.ParseValue(ref reader);
                vocabulary.Pairs.IsByteLevel |= Types(steps.RootElement).Contains("ByteLevel");
            }
            else if (reader.ValueTextEquals("added_tokens"))
            {
                using var added = JsonDocument.ParseValue(ref reader);
                foreach (var token in added.RootElement.EnumerateArray())
                {
                    vocabulary.AddAdded(token.GetProperty("content").GetString() ?? "", token.GetProperty("id").GetInt64());
                }
            }
            else
            {
                reader.Skip();
            }
        }
    }

    private static void ReadModel(ref Utf8JsonReader reader, Vocabulary vocabulary)
    {
        Require(ref reader, JsonTokenType.StartObject);
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var name = reader.GetString();
            reader.Read();
            switch (name)
            {
                case "vocab":
                    ReadVocabulary(ref reader, vocabulary);
                    break;
                case "merges":
                    ReadMerges(ref reader, vocabulary.Pairs);
                    break;
                case "end_of_word_suffix" or "continuing_subword_prefix":
                    vocabulary.Pairs.HasAffixes |= reader.TokenType == JsonTokenType.String && reader.GetString() is not "";
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }
    }

    // "a b", or since tokens may have spaces ["a", "b"].
    private static void ReadMerges(ref Utf8JsonReader reader, BytePairs pairs)
    {
        pairs.HasMerges = true;
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (reader.TokenType == JsonTokenType.String)
            {
                var left = reader.ValueSpan[..Math.Max(reader.ValueSpan.IndexOf((byte)' '), 0)];
                if (reader.ValueIsEscaped || RoundTrip.Occurs(left))
                {
                    pairs.AddMerge(reader.GetString()!);
                }
            }
            else
            {
                Require(ref reader, JsonTokenType.String);
                var left = BytePairs.Part(in reader);
                Require(ref reader, JsonTokenType.String);
                if (left is not null && BytePairs.Part(in reader) is { } right)
                {
                    pairs.AddMerge(left, right);
                }

                Require(ref reader, JsonTokenType.EndArray);
            }
        }
    }

    private static IEnumerable<string?> Types(JsonElement step) => step.ValueKind switch
    {
        JsonValueKind.Object => step.EnumerateObject().SelectMany(p => p.Name == "type" ? [p.Value.GetString()] : Types(p.Value)),
        JsonValueKind.Array => step.EnumerateArray().SelectMany(Types),
        _ => [],
    };

    private static void ReadVocabularyJson(string path, Vocabulary vocabulary)
    {
        var reader = new Utf8JsonReader(FolderFile.ReadAllBytes(path));
        Require(ref reader, JsonTokenType.StartObject);
        ReadVocabulary(ref reader, vocabulary);
    }

    private static void ReadVocabulary(ref Utf8JsonReader reader, Vocabulary vocabulary, bool isOfLanguage = false)
    {
        if (reader.TokenType == JsonTokenType.StartArray)
        {
            for (var id = 0; reader.Read() && reader.TokenType == JsonTokenType.StartArray; id++)
            {
                Require(ref reader, JsonTokenType.String);
                vocabulary.Add(ref reader, id);
                Require(ref reader, JsonTokenType.Number);
                Require(ref reader, JsonTokenType.EndArray);
            }

            return;
        }

        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var token = reader;
            reader.Read();

            // MMS keeps one vocabulary for each language, one level deeper.
            if (reader.TokenType == JsonTokenType.Number)
            {
                vocabulary.Add(ref token, reader.GetInt64());
            }
            else if (reader.TokenType == JsonTokenType.StartObject && !isOfLanguage)
            {
                ReadVocabulary(ref reader, vocabulary, isOfLanguage: true);
            }
            else
            {
                throw new JsonException($"the id of '{token.GetString()}' is no number.");
            }
        }
    }

    private static void ReadLines(string path, Vocabulary vocabulary)
    {
        foreach (var (id, token) in FolderFile.ReadLines(path).Index())
        {
            vocabulary.Add(token, id);
        }
    }

    // tiktoken: the token's bytes in base64, a space, its rank.
    private static void ReadRanks(string path, Vocabulary vocabulary)
    {
        foreach (var line in FolderFile.ReadLines(path).Where(l => l.Length > 0))
        {
            vocabulary.Add(long.Parse(line.AsSpan(line.IndexOf(' ', StringComparison.Ordinal) + 1), CultureInfo.InvariantCulture));
        }
    }

    // sentencepiece_model.proto: field 1 of the model repeats the pieces, field 1 of a piece is its text. Their places are the ids.
    // Read with Google.Protobuf because Microsoft.ML.Tokenizers brings it anyway.
    private static void ReadSentencePiece(string path, Vocabulary vocabulary)
    {
        const uint pieces = (1 << 3) | 2;
        using var model = new CodedInputStream(FolderFile.ReadAllBytes(path));
        var id = 0;
        while (model.ReadTag() is var tag and not 0)
        {
            if (tag == pieces)
            {
                using var piece = model.ReadBytes().CreateCodedInput();
                vocabulary.Add(piece.ReadTag() == pieces ? piece.ReadString() : "", id++);
            }
            else
            {
                model.SkipLastField();
            }
        }
    }

    // Mistral's: as many tokens as the config says, of which the last of the list may be left out.
    private static void ReadTekken(string path, Vocabulary vocabulary)
    {
        using var json = JsonDocument.Parse(FolderFile.ReadAllBytes(path));
        var count = json.RootElement.GetProperty("config").GetProperty("default_vocab_size").GetInt64();
        if (count > Limits.Tokens)
        {
            throw new JsonException($"it has {count} tokens; at most {Limits.Tokens} are read.");
        }

        for (var id = count - 1; id >= 0; id--)
        {
            vocabulary.Add(id);
        }
    }

    private static void Require(ref Utf8JsonReader reader, JsonTokenType type)
    {
        if (!reader.Read() || reader.TokenType != type)
        {
            throw new JsonException($"there is {reader.TokenType} where {type} is expected, at byte {reader.TokenStartIndex}.");
        }
    }
}
