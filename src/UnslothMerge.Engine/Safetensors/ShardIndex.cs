using System.Text.Encodings.Web;
using UnslothMerge.Files;

namespace UnslothMerge.Safetensors;

/// <summary><c>model.safetensors.index.json</c>: which shard holds which tensor. Source: huggingface_hub 1.29,
/// <c>save_torch_state_dict</c>.</summary>
internal static class ShardIndex
{
    public const string FileName = "model.safetensors.index.json";

    /// <summary><c>model.safetensors.index.fp16.json</c> for the variant fp16.</summary>
    public static string NameFor(string? variant) =>
        variant is null ? FileName : FileName.Replace(".json", $".{variant}.json", StringComparison.Ordinal);

    private static readonly JsonSerializerOptions Indented =
        new() { WriteIndented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Reads the weight map: tensor name → shard name.</summary>
    public static IReadOnlyDictionary<string, string> Read(string path)
    {
        var map = new Dictionary<string, string>(StringComparer.Ordinal);
        try
        {
            var options = new JsonDocumentOptions { AllowDuplicateProperties = false };
            using var document = JsonDocument.Parse(RegularFile.ReadText(path), options);
            foreach (var entry in document.RootElement.GetProperty("weight_map").EnumerateObject())
            {
                var shard = entry.Value.GetString() ?? throw new JsonException($"'{entry.Name}' has no shard.");
                map.Add(entry.Name, IsPlainName(shard) ? shard
                    : throw new JsonException($"'{entry.Name}' lies in '{shard}', which is not the name of a file in the same directory."));
            }
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException or IOException
            or UnauthorizedAccessException)
        {
            throw FailedDownload.Find(path, MergeError.InvalidModel) ?? new MergeException(
                MergeError.InvalidModel, $"'{path}' is not a valid index: {e.Message}", path, "Download the index again.", e);
        }

        return map;
    }

    /// <summary>The text of an index (tensor name → shard name): sorted keys, indented by two, with a final newline. Totals are those of
    /// all tensors.</summary>
    public static string Write(IEnumerable<KeyValuePair<string, string>> weightMap, long totalBytes, long totalParameters)
    {
        var map = new JsonObject();
        foreach (var (name, shard) in weightMap.OrderBy(e => e.Key, StringComparer.Ordinal))
        {
            map.Add(name, shard);
        }

        var index = new JsonObject
        {
            ["metadata"] = new JsonObject { ["total_parameters"] = totalParameters, ["total_size"] = totalBytes },
            ["weight_map"] = map,
        };
        return index.ToJsonString(Indented).ReplaceLineEndings("\n") + "\n";
    }

    // The index may be downloaded: shard names must not leave its directory.
    private static bool IsPlainName(string shard) =>
        shard.Length > 0 && shard is not ("." or "..") && shard.AsSpan().IndexOfAny('/', '\\', ':') < 0
            && !shard.Contains('\0', StringComparison.Ordinal);
}
