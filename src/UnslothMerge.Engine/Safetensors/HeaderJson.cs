namespace UnslothMerge.Safetensors;

/// <summary>One tensor's entry in a header, before it is checked. Offsets count from the end of the header.</summary>
internal sealed record HeaderEntry(string Name, TensorType Type, ulong[] Shape, ulong Begin, ulong End);

/// <summary>Reads the JSON of a header. Duplicate keys, which JSON parsers resolve in different ways, are errors.</summary>
internal static class HeaderJson
{
    public static (Dictionary<string, string> Metadata, List<HeaderEntry> Entries) Read(byte[] json, string path)
    {
        var metadata = new Dictionary<string, string>(StringComparer.Ordinal);
        var entries = new List<HeaderEntry>();
        var names = new HashSet<string>(StringComparer.Ordinal);
        try
        {
            var reader = new Utf8JsonReader(json);
            Expect(ref reader, JsonTokenType.StartObject, "the header");
            while (Next(ref reader) != JsonTokenType.EndObject)
            {
                var name = reader.GetString()!;
                if (name.Length > Limits.NameLength)
                {
                    throw new JsonException($"a name has {name.Length} characters; at most {Limits.NameLength} are read.");
                }

                if (!names.Add(name))
                {
                    throw new JsonException($"'{name}' occurs twice.");
                }

                if (name == "__metadata__")
                {
                    ReadMetadata(ref reader, metadata);
                }
                else
                {
                    entries.Add(ReadEntry(ref reader, name));
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

        Require(reader.TokenType == JsonTokenType.StartObject, JsonTokenType.StartObject, "__metadata__");
        while (Next(ref reader) != JsonTokenType.EndObject)
        {
            var key = reader.GetString()!;
            Expect(ref reader, JsonTokenType.String, $"__metadata__.{key}");
            if (!metadata.TryAdd(key, reader.GetString()!))
            {
                throw new JsonException($"'{key}' occurs twice in __metadata__.");
            }
        }
    }

    private static HeaderEntry ReadEntry(ref Utf8JsonReader reader, string name)
    {
        string? type = null;
        ulong[]? shape = null, offsets = null;
        Expect(ref reader, JsonTokenType.StartObject, name);
        while (Next(ref reader) != JsonTokenType.EndObject)
        {
            if (reader.ValueTextEquals("dtype"u8) && type is null)
            {
                Expect(ref reader, JsonTokenType.String, $"{name}.dtype");
                type = reader.GetString();
            }
            else if (reader.ValueTextEquals("shape"u8) && shape is null)
            {
                shape = ReadNumbers(ref reader, $"{name}.shape");
            }
            else if (reader.ValueTextEquals("data_offsets"u8) && offsets is null)
            {
                offsets = ReadNumbers(ref reader, $"{name}.data_offsets");
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
            : offsets is not { Length: 2 } ? throw new JsonException($"{name} has no pair of data_offsets.")
            : new HeaderEntry(name, parsed, shape, offsets[0], offsets[1]);
    }

    private static ulong[] ReadNumbers(ref Utf8JsonReader reader, string what)
    {
        var numbers = new List<ulong>(4);
        Expect(ref reader, JsonTokenType.StartArray, what);
        while (Next(ref reader) != JsonTokenType.EndArray)
        {
            numbers.Add(reader.TokenType == JsonTokenType.Number && reader.TryGetUInt64(out var number)
                ? number
                : throw new JsonException($"{what} holds something else than whole numbers from 0."));
        }

        return [.. numbers];
    }

    private static JsonTokenType Next(ref Utf8JsonReader reader) =>
        reader.Read() ? reader.TokenType : throw new JsonException("The header ends too early.");

    private static void Expect(ref Utf8JsonReader reader, JsonTokenType type, string what) =>
        Require(Next(ref reader) == type, type, what);

    private static void Require(bool holds, JsonTokenType type, string what)
    {
        if (!holds)
        {
            var expected = type == JsonTokenType.StartObject ? "an object" : type == JsonTokenType.StartArray ? "an array" : "a string";
            throw new JsonException($"{what} is not {expected}.");
        }
    }
}
