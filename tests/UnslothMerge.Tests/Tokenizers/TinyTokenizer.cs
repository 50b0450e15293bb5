using Google.Protobuf;

namespace UnslothMerge.Tests.Tokenizers;

/// <summary>Writes small tokenizers of every kind.</summary>
internal static class TinyTokenizer
{
    public static readonly string[] Merges = ["Ġ t", "h e", "Ġt he"];

    /// <summary>The 256 characters that stand for bytes, and a few merges: ids 0 to 258.</summary>
    public static IReadOnlyList<string> ByteLevel { get; } =
        [.. Enumerable.Range(0, 256).Select(b => RoundTrip.ByteLevel([(byte)b])), "Ġt", "he", "Ġthe"];

    /// <summary>tokenizer.json as the tokenizers library writes it, and tokenizer_config.json.</summary>
    public static string Fast(string directory, string? eos = null, string[]? added = null, string[]? merges = null, bool pairs = false,
        string? template = null)
    {
        Directory.CreateDirectory(directory);
        var json = new JsonObject
        {
            ["added_tokens"] = new JsonArray(
                [.. (added ?? []).Select((t, i) =>
                    (JsonNode)new JsonObject { ["id"] = ByteLevel.Count + i, ["content"] = t, ["special"] = true })]),
            ["pre_tokenizer"] = new JsonObject { ["type"] = "Sequence",
                ["pretokenizers"] = new JsonArray(new JsonObject { ["type"] = "ByteLevel" }) },
            ["model"] = new JsonObject
            {
                ["type"] = "BPE",
                ["vocab"] = Ids(ByteLevel),
                ["merges"] = new JsonArray([.. (merges ?? Merges)
                    .Select(m => pairs ? new JsonArray([.. m.Split(' ').Select(t => (JsonNode)t)]) : (JsonNode)m)]),
            },
        };
        Write(directory, "tokenizer.json", json.ToJsonString());
        var config = new JsonObject { ["tokenizer_class"] = "PreTrainedTokenizerFast" };
        if (eos is not null)
        {
            config["eos_token"] = eos;
        }

        Write(directory, "tokenizer_config.json", config.ToJsonString());
        if (template is not null)
        {
            Write(directory, "chat_template.jinja", template);
        }

        return directory;
    }

    /// <summary>A name → id object.</summary>
    public static JsonObject Ids(IEnumerable<string> tokens) => new(tokens.Select((t, i) => KeyValuePair.Create(t, (JsonNode?)i)));

    /// <summary>tokenizer.model: control tokens, then one piece for each character of a text. Model type 2 is BPE.</summary>
    public static void SentencePiece(string path, string characters, string normalizer = "identity")
    {
        using var stream = File.Create(path);
        using var model = new CodedOutputStream(stream);
        foreach (var (piece, type) in new[] { ("<unk>", 2), ("<s>", 3),
            ("</s>", 3) }.Concat(characters.Distinct().Select(c => ($"{c}", 1))))
        {
            Message(model, 1, m =>
            {
                m.WriteTag(1, WireFormat.WireType.LengthDelimited);
                m.WriteString(piece);
                m.WriteTag(2, WireFormat.WireType.Fixed32);
                m.WriteFloat(0);
                m.WriteTag(3, WireFormat.WireType.Varint);
                m.WriteInt32(type);
            });
        }

        Message(model, 2, m =>
        {
            m.WriteTag(3, WireFormat.WireType.Varint);
            m.WriteInt32(2);
        });
        Message(model, 3, m =>
        {
            m.WriteTag(1, WireFormat.WireType.LengthDelimited);
            m.WriteString(normalizer);
        });
    }

    public static void Write(string directory, string name, string text) => File.WriteAllText(Path.Combine(directory, name), text);

    private static void Message(CodedOutputStream output, int field, Action<CodedOutputStream> write)
    {
        using var stream = new MemoryStream();
        using (var message = new CodedOutputStream(stream, leaveOpen: true))
        {
            write(message);
        }

        output.WriteTag(field, WireFormat.WireType.LengthDelimited);
        output.WriteBytes(ByteString.CopyFrom(stream.ToArray()));
    }
}
