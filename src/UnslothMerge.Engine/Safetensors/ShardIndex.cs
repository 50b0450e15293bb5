using System.Buffers;
using System.Text.Encodings.Web;

namespace UnslothMerge.Safetensors;

/// <summary><c>model.safetensors.index.json</c>: which shard holds which tensor. Source: huggingface_hub 1.29,
/// <c>save_torch_state_dict</c>.</summary>
internal static class ShardIndex
{
    public const string FileName = "model.safetensors.index.json";

    /// <summary><c>model.safetensors.index.fp16.json</c> for the variant fp16.</summary>
    public static string NameFor(string? variant) =>
        variant is null ? FileName : FileName.Replace(".json", $".{variant}.json", StringComparison.Ordinal);

    private static readonly JsonWriterOptions Indented =
        new() { Indented = true, NewLine = "\n", Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Reads the weight map: tensor name → shard name.</summary>
    public static IReadOnlyDictionary<string, string> Read(string path)
    {
        var map = new Dictionary<string, string>(StringComparer.Ordinal);
        Read(path, (name, shard) =>
        {
            if (!map.TryAdd(name, shard))
            {
                throw new JsonException($"'{name}' occurs twice.");
            }
        });
        return map;
    }

    /// <summary>Reads the weight map, entry by entry: the index of a million tensors has a hundred megabytes.</summary>
    public static void Read(string path, Action<string, string> entry)
    {
        try
        {
            using var stream = new FileStream(FolderFile.Open(path), FileAccess.Read, bufferSize: 0);
            if (stream.Length > Limits.IndexBytes)
            {
                throw new IOException($"it has {stream.Length} bytes; at most {Limits.IndexBytes} are read of an index.");
            }

            if (!new WeightMapReader(entry, IsPlainName).Read(stream))
            {
                throw new JsonException("it has no weight_map.");
            }
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or IOException or UnauthorizedAccessException)
        {
            throw FailedDownload.Find(path, MergeError.InvalidModel) ?? new MergeException(
                MergeError.InvalidModel, $"'{path}' is not a valid index: {e.Message}", path, "Download the index again.", e);
        }
    }

    /// <summary>Writes an index (tensor name → shard name): sorted keys, indented by two, with a final newline. Totals are those of all
    /// tensors.</summary>
    public static void Write(
        IBufferWriter<byte> output, IEnumerable<KeyValuePair<string, string>> weightMap, long totalBytes, long totalParameters)
    {
        using (var json = new Utf8JsonWriter(output, Indented))
        {
            json.WriteStartObject();
            json.WriteStartObject("metadata");
            json.WriteNumber("total_parameters", totalParameters);
            json.WriteNumber("total_size", totalBytes);
            json.WriteEndObject();
            json.WriteStartObject("weight_map");
            foreach (var (name, shard) in weightMap.OrderBy(e => e.Key, StringComparer.Ordinal))
            {
                json.WriteString(name, shard);
            }

            json.WriteEndObject();
            json.WriteEndObject();
        }

        output.Write("\n"u8);
    }

    /// <summary>The text of an index.</summary>
    public static string Text(IEnumerable<KeyValuePair<string, string>> weightMap, long totalBytes, long totalParameters)
    {
        var output = new ArrayBufferWriter<byte>();
        Write(output, weightMap, totalBytes, totalParameters);
        return Encoding.UTF8.GetString(output.WrittenSpan);
    }

    // The index may be downloaded: shard names must not leave its directory.
    /// <summary>True for the name of a file, without a folder.</summary>
    public static bool IsPlainName(string shard) =>
        shard.Length > 0 && shard is not ("." or "..") && shard.AsSpan().IndexOfAny('/', '\\', ':') < 0
            && !shard.Contains('\0', StringComparison.Ordinal);
}
