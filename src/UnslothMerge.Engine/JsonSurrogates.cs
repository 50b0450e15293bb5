namespace UnslothMerge;

/// <summary>JSON allows an escaped half of a surrogate pair, which no text of .NET or UTF-8 can hold.</summary>
internal static class JsonSurrogates
{
    /// <summary>Refuses a JSON text that has one.</summary>
    /// <exception cref="JsonException">It has one, or is no JSON.</exception>
    public static void RequireWhole(string json)
    {
        if (!json.Contains(@"\ud", StringComparison.OrdinalIgnoreCase))
        {
            return;
        }

        var reader = new Utf8JsonReader(Encoding.UTF8.GetBytes(json));
        while (reader.Read())
        {
            try
            {
                _ = reader.TokenType is JsonTokenType.String or JsonTokenType.PropertyName ? reader.GetString() : null;
            }
            catch (InvalidOperationException e)
            {
                throw new JsonException($"it has half of a surrogate pair at byte {reader.TokenStartIndex}.", e);
            }
        }
    }
}
