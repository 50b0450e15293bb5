using System.Buffers;
using UnslothMerge.Execution;

namespace UnslothMerge.Saving;

/// <summary>What is noted of a tensor that was written.</summary>
internal sealed record TensorRecord(
    string Name, string Action, string Type, string Format, IReadOnlyList<long> Shape, long Bytes, TensorFigures Figures)
{
    public static TensorRecord Of(TensorResult result) => new(
        result.Tensor.Name, (result.Written.Verbatim is null ? result.Tensor.Action : TensorAction.Copy).ToString(),
        result.Written.Sink.Outputs[0].Type.ToString(), result.Written.Sink.Format, result.Tensor.Shape,
        result.Written.Bytes, result.Figures);
}

/// <summary>What is noted of a shard that is finished: its length, its checksum, the fingerprint of its save, and its tensors.</summary>
internal sealed record ShardRecord(string Name, string Fingerprint, long Bytes, ulong Checksum, ImmutableArray<TensorRecord> Tensors)
{
    /// <summary>The bytes that it shares with a file of the base.</summary>
    public long Cloned { get; init; }

    /// <summary>The SHA-256 by which the Hub has it; null if it lies on the disk.</summary>
    public string? Sha256 { get; init; }

    public static ShardRecord Of(FinishedShard shard, string fingerprint) => new(
        shard.Name, fingerprint, shard.Bytes, shard.Checksum!.Value, [.. shard.Tensors.Select(TensorRecord.Of)])
    {
        Cloned = shard.Cloned,
    };

    // A tree of JSON nodes of many tensors would take more than the plan of them.
    public void Write(IBufferWriter<byte> output)
    {
        using var json = new Utf8JsonWriter(output);
        json.WriteStartObject();
        json.WriteString("fingerprint", Fingerprint);
        json.WriteNumber("bytes", Bytes);
        json.WriteString("crc64", $"{Checksum:x16}");
        json.WriteNumber("cloned", Cloned);
        if (Sha256 is not null)
        {
            json.WriteString("sha256", Sha256);
        }

        json.WriteStartObject("tensors");
        foreach (var tensor in Tensors)
        {
            json.WriteStartArray(tensor.Name);
            Write(json, tensor.Figures.RelativeChange);
            Write(json, tensor.Figures.RelativeError);
            json.WriteStringValue(tensor.Action);
            json.WriteStringValue(tensor.Type);
            json.WriteNumberValue(tensor.Bytes);
            json.WriteStartArray();
            foreach (var dimension in tensor.Shape)
            {
                json.WriteNumberValue(dimension);
            }

            json.WriteEndArray();
            json.WriteStringValue(tensor.Format);
            json.WriteEndArray();
        }

        json.WriteEndObject();
        json.WriteEndObject();
    }

    /// <summary>Reads what <see cref="Write"/> gave; null if that is damaged.</summary>
    public static ShardRecord? Read(string name, string text)
    {
        try
        {
            var json = JsonNode.Parse(text)!;
            var record = new ShardRecord(name, (string)json["fingerprint"]!, (long)json["bytes"]!,
                ulong.Parse((string)json["crc64"]!, NumberStyles.HexNumber, CultureInfo.InvariantCulture),
                [.. json["tensors"]!.AsObject().Select(t => Tensor(t.Key, t.Value!))])
            {
                Cloned = (long)json["cloned"]!,
                Sha256 = (string?)json["sha256"],
            };
            return record.Cloned >= 0 && record.Cloned <= record.Bytes ? record : null;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException or OverflowException
            or ArgumentException or NullReferenceException)
        {
            return null;
        }
    }

    /// <summary>The shard again, with the tensors of the plan that it is of; null if it has others.</summary>
    public FinishedShard? ToFinished(WriteShard shard)
    {
        var tensors = Tensors.ToDictionary(t => t.Name, StringComparer.Ordinal);
        if (!shard.Tensors.All(t => tensors.ContainsKey(t.Tensor.Name)))
        {
            return null;
        }

        return new FinishedShard(Name, Bytes, Checksum,
            [.. shard.Tensors.OrderBy(t => t.Tensor.Ordinal)
                .Select(t => new TensorResult(t) { Figures = tensors[t.Tensor.Name].Figures })])
        {
            Cloned = Cloned,
        };
    }

    private static TensorRecord Tensor(string name, JsonNode json) => new(name, (string)json[2]!, (string)json[3]!, (string)json[6]!,
        [.. json[5]!.AsArray().Select(d => (long)d!)], (long)json[4]!, TensorFigures.Of(Number(json[0]), Number(json[1])));

    // A change of a tensor of zeros is infinite, which JSON has no number for.
    private static void Write(Utf8JsonWriter json, double? value)
    {
        if (value is null)
        {
            json.WriteNullValue();
        }
        else if (double.IsFinite(value.Value))
        {
            json.WriteNumberValue(value.Value);
        }
        else
        {
            json.WriteStringValue(value.Value.ToString(CultureInfo.InvariantCulture));
        }
    }

    private static double? Number(JsonNode? value) => value is null ? null
        : value.GetValueKind() == JsonValueKind.String ? double.Parse((string)value!, CultureInfo.InvariantCulture) : (double)value;
}
