namespace UnslothMerge.Safetensors;

/// <summary>One tensor's entry in a header, before it is checked. Offsets count from the end of the header.</summary>
internal readonly record struct HeaderEntry(TensorName StoredName, TensorType Type, ulong[] Shape, ulong Begin, ulong End)
{
    public string Name => StoredName.ToString();
}

/// <summary>Reads the JSON of a header. Duplicate keys, which JSON parsers resolve in different ways, are errors.</summary>
internal static class HeaderJson
{
    // A quantized model has some dozens of shapes.
    private const int MaxShared = 64;

    // An entry takes as many bytes at least, for all but the shortest names.
    private const int UsualBytes = 96;

    public static (Dictionary<string, string> Metadata, List<HeaderEntry> Entries) Read(ReadOnlySpan<byte> json, string path)
    {
        var metadata = new Dictionary<string, string>(StringComparer.Ordinal);
        var entries = new List<HeaderEntry>(json.Length / UsualBytes);
        var names = new NameIndex(i => entries[i].Name, entries.Capacity);
        var blocks = new NameBlocks(json.Length);
        var shapes = new ShapePool();
        var hasMetadata = false;
        try
        {
            var reader = new Utf8JsonReader(json);
            Expect(ref reader, JsonTokenType.StartObject, "the header", "");
            while (Next(ref reader) != JsonTokenType.EndObject)
            {
                var name = reader.GetString()!;
                if (name.Length > Limits.NameLength)
                {
                    throw new JsonException($"a name has {name.Length} characters; at most {Limits.NameLength} are read.");
                }

                var isMetadata = name == "__metadata__";
                if (isMetadata ? hasMetadata : names.Find(name) >= 0)
                {
                    throw new JsonException($"'{name}' occurs twice.");
                }

                if (isMetadata)
                {
                    hasMetadata = true;
                    ReadMetadata(ref reader, metadata);
                }
                else
                {
                    entries.Add(ReadEntry(ref reader, name, shapes, blocks));
                    names.TryAdd();
                }
            }

            return reader.Read() ? throw new JsonException("Something follows the header's object.") : (metadata, entries);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new SafetensorsException(SafetensorsError.InvalidHeaderDeserialization, path, e.Message);
        }
    }

    private static void ReadMetadata(ref Utf8JsonReader reader, Dictionary<string, string> metadata)
    {
        // MLX writes null for none.
        if (Next(ref reader) == JsonTokenType.Null)
        {
            return;
        }

        Require(reader.TokenType == JsonTokenType.StartObject, JsonTokenType.StartObject, "__metadata__", "");
        var start = reader.TokenStartIndex;
        while (Next(ref reader) != JsonTokenType.EndObject)
        {
            if (reader.TokenStartIndex - start > Limits.MetadataBytes)
            {
                throw new JsonException($"__metadata__ has more than {Limits.MetadataBytes} bytes.");
            }

            var key = reader.GetString()!;
            Expect(ref reader, JsonTokenType.String, "__metadata__.", key);
            if (!metadata.TryAdd(key, reader.GetString()!))
            {
                throw new JsonException($"'{key}' occurs twice in __metadata__.");
            }
        }
    }

    private static HeaderEntry ReadEntry(ref Utf8JsonReader reader, string name, ShapePool shapes, NameBlocks blocks)
    {
        string? type = null;
        ulong[]? shape = null;
        (ulong Begin, ulong End)? offsets = null;
        var numbers = shapes.Numbers;
        Expect(ref reader, JsonTokenType.StartObject, name, "");
        while (Next(ref reader) != JsonTokenType.EndObject)
        {
            if (reader.ValueTextEquals("dtype"u8) && type is null)
            {
                Expect(ref reader, JsonTokenType.String, name, ".dtype");
                type = reader.GetString();
            }
            else if (reader.ValueTextEquals("shape"u8) && shape is null)
            {
                shape = shapes.Shared(ReadNumbers(ref reader, name, ".shape", numbers));
            }
            else if (reader.ValueTextEquals("data_offsets"u8) && offsets is null)
            {
                offsets = ReadNumbers(ref reader, name, ".data_offsets", numbers) is [var begin, var end]
                    ? (begin, end) : throw new JsonException($"{name} has no pair of data_offsets.");
            }
            else
            {
                if (reader.ValueTextEquals("dtype"u8) || reader.ValueTextEquals("shape"u8) || reader.ValueTextEquals("data_offsets"u8))
                {
                    throw new JsonException($"A key occurs twice in {name}.");
                }

                reader.Skip();
            }
        }

        return !TensorTypes.TryParse(type, out var parsed) ? throw new JsonException(
            $"{name} has the dtype '{type}', which the format does not know.")
            : shape is null ? throw new JsonException($"{name} has no shape.")
            : offsets is not { } range ? throw new JsonException($"{name} has no pair of data_offsets.")
            : new HeaderEntry(blocks.Add(name), parsed, shape, range.Begin, range.End);
    }

    private static ReadOnlySpan<ulong> ReadNumbers(ref Utf8JsonReader reader, string name, string part, List<ulong> numbers)
    {
        numbers.Clear();
        Expect(ref reader, JsonTokenType.StartArray, name, part);
        while (Next(ref reader) != JsonTokenType.EndArray)
        {
            numbers.Add(reader.TokenType == JsonTokenType.Number && reader.TryGetUInt64(out var number)
                ? number
                : throw new JsonException($"{name}{part} holds something else than whole numbers from 0."));
            if (numbers.Count > Limits.Dimensions)
            {
                throw new JsonException($"{name}{part} has more than {Limits.Dimensions} numbers.");
            }
        }

        return CollectionsMarshal.AsSpan(numbers);
    }

    private static JsonTokenType Next(ref Utf8JsonReader reader) =>
        reader.Read() ? reader.TokenType : throw new JsonException("The header ends too early.");

    private static void Expect(ref Utf8JsonReader reader, JsonTokenType type, string what, string part) =>
        Require(Next(ref reader) == type, type, what, part);

    // Nearly all hold: what they are about is put together for those that do not.
    private static void Require(bool holds, JsonTokenType type, string what, string part)
    {
        if (!holds)
        {
            var expected = type == JsonTokenType.StartObject ? "an object" : type == JsonTokenType.StartArray ? "an array" : "a string";
            throw new JsonException($"{what}{part} is not {expected}.");
        }
    }

    // Most tensors have one of a few shapes.
    private sealed class ShapePool
    {
        private readonly List<ulong[]> _shapes = [];

        // A list for all arrays of numbers.
        public List<ulong> Numbers { get; } = new(4);

        public ulong[] Shared(ReadOnlySpan<ulong> shape)
        {
            // The last ones first: layers repeat.
            for (var i = _shapes.Count - 1; i >= 0; i--)
            {
                if (shape.SequenceEqual(_shapes[i]))
                {
                    return _shapes[i];
                }
            }

            if (_shapes.Count == MaxShared)
            {
                _shapes.Clear();
            }

            _shapes.Add(shape.ToArray());
            return _shapes[^1];
        }
    }
}
