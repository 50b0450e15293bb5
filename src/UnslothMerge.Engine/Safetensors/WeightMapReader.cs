namespace UnslothMerge.Safetensors;

/// <summary>Reads an index in parts of its text.</summary>
/// <param name="entry">Takes a tensor and its shard.</param>
/// <param name="isName">True for what may be the name of a shard.</param>
internal sealed class WeightMapReader(Action<string, string> entry, Func<string, bool> isName)
{
    private const int PartBytes = 64 * 1024;

    private readonly Dictionary<string, string> _shards = new(StringComparer.Ordinal);
    private string? _name;
    private bool _isInside;
    private bool _isDone;

    /// <summary>Reads all of it; false if there is no weight map.</summary>
    public bool Read(Stream stream)
    {
        var buffer = new byte[PartBytes];
        var (state, kept, isFirst) = (default(JsonReaderState), 0, true);
        for (var isLast = false; !isLast;)
        {
            if (kept == buffer.Length)
            {
                // A single text is longer than the buffer.
                Array.Resize(ref buffer, 2 * buffer.Length);
            }

            var read = stream.ReadAtLeast(buffer.AsSpan(kept), buffer.Length - kept, throwOnEndOfStream: false);
            isLast = kept + read < buffer.Length;
            var part = buffer.AsSpan(0, kept + read);
            var mark = isFirst && part.StartsWith(Encoding.UTF8.Preamble) ? Encoding.UTF8.Preamble.Length : 0;
            isFirst = false;
            var reader = new Utf8JsonReader(part[mark..], isLast, state);
            while (reader.Read())
            {
                Take(ref reader);
            }

            state = reader.CurrentState;
            kept = part.Length - mark - (int)reader.BytesConsumed;
            part[^kept..].CopyTo(buffer);
        }

        return _isDone;
    }

    private void Take(ref Utf8JsonReader reader)
    {
        switch (reader.CurrentDepth)
        {
            case 0 when reader.TokenType is not (JsonTokenType.StartObject or JsonTokenType.EndObject):
                throw new JsonException("it is not an object.");
            case 1 when reader.TokenType == JsonTokenType.PropertyName:
                _name = reader.ValueTextEquals("weight_map"u8) ? "weight_map" : null;
                break;
            case 1 when _isInside:
                (_isInside, _isDone, _name) = (false, true, null);
                break;
            case 1 when _name is not null:
                _isInside = reader.TokenType == JsonTokenType.StartObject && !_isDone
                    ? true : throw new JsonException("its weight_map is not one object.");
                break;
            case 2 when _isInside && reader.TokenType == JsonTokenType.PropertyName:
                _name = reader.GetString()!;
                break;
            case >= 2 when _isInside:
                entry(_name!, Shard(ref reader));
                break;
        }
    }

    private string Shard(ref Utf8JsonReader reader)
    {
        var text = reader.TokenType == JsonTokenType.String ? reader.GetString()! : throw new JsonException($"'{_name}' has no shard.");
        if (!_shards.TryGetValue(text, out var shard))
        {
            _shards.Add(text, shard = isName(text) ? text
                : throw new JsonException($"'{_name}' lies in '{text}', which is not the name of a file in the same directory."));
        }

        return shard;
    }
}
