namespace UnslothMerge.Tokenizers;

/// <summary>A special token (<c>eos</c>, <c>bos</c> or <c>pad</c>) that a tokenizer names; the id is null if the vocabulary does not have
/// it.</summary>
internal sealed record SpecialToken(string Role, string Text, long? Id)
{
    /// <summary>The roles that configs repeat by id.</summary>
    public static readonly IReadOnlyList<string> Roles = ["eos", "bos", "pad"];
}

/// <summary>What the tokenizer of a model says of itself: the size of its vocabulary, and its special tokens.</summary>
internal sealed class ModelTokenizer
{
    private readonly VocabularyFile _file;
    private readonly IReadOnlyDictionary<string, string> _files;
    private readonly BytePairs _pairs;

    private ModelTokenizer(
        VocabularyFile file, IReadOnlyDictionary<string, string> files, Vocabulary vocabulary, IReadOnlyList<SpecialToken> special)
    {
        _file = file;
        _files = files;
        _pairs = vocabulary.Pairs;
        Count = vocabulary.Count;
        LargestId = vocabulary.LargestId;
        Added = vocabulary.Added;
        Special = special;
        HasChatTemplate = HasTemplate(files);
    }

    /// <summary>The file that holds the vocabulary.</summary>
    public string Path => _file.Path;

    /// <summary>The number of tokens, added ones included.</summary>
    public long Count { get; }

    /// <summary>The largest id: the embedding needs one row more.</summary>
    public long LargestId { get; }

    /// <summary>The tokens that were added to the model's own, by id.</summary>
    public IReadOnlyDictionary<long, string> Added { get; }

    /// <summary>The special tokens that it names.</summary>
    public IReadOnlyList<SpecialToken> Special { get; }

    /// <summary>True if it can lay out a conversation.</summary>
    public bool HasChatTemplate { get; }

    /// <summary>Reads the tokenizer of a model directory; null if it has none.</summary>
    public static ModelTokenizer? Read(string directory) => Read(ModelFiles.TokenizerPaths(directory));

    /// <summary>Reads the tokenizer among the files of a model (relative path → file); null if there is no vocabulary.</summary>
    public static ModelTokenizer? Read(IReadOnlyDictionary<string, string> files)
    {
        if (VocabularyFile.Find(files) is not { } file)
        {
            return null;
        }

        var config = Json(files, "tokenizer_config.json");
        var texts = Texts(config, Json(files, "special_tokens_map.json"));
        var vocabulary = new Vocabulary(texts.Values);
        try
        {
            file.Read(vocabulary);
            if (vocabulary.Count == 0)
            {
                throw new JsonException("it has no tokens.");
            }

            foreach (var (token, id) in Json(files, "added_tokens.json") ?? [])
            {
                vocabulary.AddAdded(token, id?.GetValue<long>() ?? throw new JsonException($"'{token}' of added_tokens.json has no id."));
            }

            foreach (var (id, token) in config?["added_tokens_decoder"] as JsonObject ?? [])
            {
                vocabulary.AddAdded(TextOf(token) ?? "", long.Parse(id, System.Globalization.CultureInfo.InvariantCulture));
            }
        }
        catch (Exception e) when (VocabularyFile.IsDamage(e))
        {
            throw new MergeException(
                MergeError.InvalidModel, $"'{file.Path}' is not a vocabulary that can be read: {e.Message}", file.Path,
                "Download it again, or give a directory with another as -Tokenizer.", e);
        }

        var special = texts.Select(t => new SpecialToken(t.Key, t.Value, vocabulary.Find(t.Value)));
        return new ModelTokenizer(file, files, vocabulary, [.. special]);
    }

    /// <summary>Encodes a sample text and decodes the ids, which must be below the rows of the embedding; null if those are not
    /// known.</summary>
    public RoundTripResult RoundTrip(long? rows) => Tokenizers.RoundTrip.Run(_file, _files, _pairs, rows);

    /// <summary>True if there is a chat template among files: a file of its own, or a key of the tokenizer's config.</summary>
    public static bool HasTemplate(IReadOnlyDictionary<string, string> files) =>
        files.Keys.Any(f => f.StartsWith("chat_template.", StringComparison.Ordinal))
        || Json(files, "tokenizer_config.json")?["chat_template"] is not null;

    private static Dictionary<string, string> Texts(JsonObject? config, JsonObject? map)
    {
        var texts = new Dictionary<string, string>();
        foreach (var role in SpecialToken.Roles)
        {
            if ((TextOf(config?[$"{role}_token"]) ?? TextOf(map?[$"{role}_token"])) is { } text)
            {
                texts[role] = text;
            }
        }

        return texts;
    }

    // A token is its text, or an object that says how to treat it too.
    private static string? TextOf(JsonNode? token) => token switch
    {
        JsonObject o => o.String("content"),
        JsonValue v when v.TryGetValue(out string? text) => text,
        _ => null,
    };

    private static JsonObject? Json(IReadOnlyDictionary<string, string> files, string name) =>
        files.TryGetValue(name, out var path) ? JsonFile.Read(path, MergeError.InvalidModel) : null;
}
