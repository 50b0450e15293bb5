using System.Text.Encodings.Web;

namespace UnslothMerge.Models;

/// <summary>
/// Reads and writes the JSON files of a model directory. A <see cref="JsonObject"/> keeps the order of keys and the spelling of numbers
/// that nobody touches, so that an edited file differs from the original only where it was edited.
/// </summary>
internal static partial class JsonFile
{
    private static readonly JsonDocumentOptions Reading = new() { AllowDuplicateProperties = false };
    private static readonly string[] PythonNumbers = ["-Infinity", "Infinity", "NaN"];

    // Stands before a number that JSON does not have, while it is kept as a text.
    private const string NumberMark = "unslothmerge:number:";

    private static JsonSerializerOptions Indented =>
        field ??= new() { WriteIndented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Reads a file that must hold a JSON object.</summary>
    public static JsonObject Read(string path, MergeError error) => Read<JsonObject>(path, error);

    /// <summary>Reads a file that must hold a JSON object or a JSON array.</summary>
    public static T Read<T>(string path, MergeError error)
        where T : JsonNode
    {
        try
        {
            var node = Parse(FolderFile.ReadText(path, Limits.JsonBytes)) as T
                ?? throw new JsonException($"it is not a JSON {(typeof(T) == typeof(JsonArray) ? "array" : "object")}.");
            return node is JsonObject json && json.ContainsKey("error") && FailedDownload.Find(path, error) is { } failed
                ? throw failed
                : node;
        }
        catch (Exception e) when (e is JsonException or IOException or UnauthorizedAccessException)
        {
            throw (e is JsonException ? FailedDownload.Find(path, error) : null)
                ?? new MergeException(error, $"'{path}' cannot be read: {e.Message}", path, inner: e);
        }
    }

    /// <summary>Reads what <see cref="Text"/> gave.</summary>
    public static JsonObject OfText(string text) => Parse(text)!.AsObject();

    /// <summary>Reads a text of other people.</summary>
    /// <exception cref="JsonException">It is no JSON, nor what Python writes, or is too long.</exception>
    public static JsonNode? Parse(string text)
    {
        var json = HidePythonNumbers(text);
        JsonSurrogates.RequireWhole(json);
        try
        {
            return JsonNode.Parse(json, documentOptions: Reading);
        }
        catch (JsonException)
        {
            return Unique(JsonDocument.Parse(json).RootElement);
        }
    }

    // A key that occurs twice with one value says nothing else than a key that occurs once.
    private static JsonNode? Unique(JsonElement element)
    {
        if (element.ValueKind == JsonValueKind.Array)
        {
            return new JsonArray([.. element.EnumerateArray().Select(Unique)]);
        }

        if (element.ValueKind != JsonValueKind.Object)
        {
            return JsonValue.Create(element);
        }

        var json = new JsonObject();
        foreach (var property in element.EnumerateObject())
        {
            var value = Unique(property.Value);
            if (!json.TryAdd(property.Name, value) && !JsonNode.DeepEquals(json[property.Name], value))
            {
                throw new JsonException($"'{property.Name}' occurs twice, with different values.");
            }
        }

        return json;
    }

    /// <summary>The text of a JSON file as the Hugging Face libraries write it: indented by two, with a final newline.</summary>
    public static string Text(JsonObject json) => ShowPythonNumbers(json.ToJsonString(Indented).ReplaceLineEndings("\n")) + "\n";

    // Python writes NaN, Infinity and -Infinity, which JSON does not have, and some configs hold them (time_step_limit of Mamba 2).
    private static string HidePythonNumbers(string json)
    {
        var (hidden, done, count, values) = (new StringBuilder(), 0, 0, 0);
        for (var i = 0; i < json.Length; i++)
        {
            if (json[i] == '"')
            {
                for (i++; i < json.Length && json[i] != '"'; i++)
                {
                    i += json[i] == '\\' ? 1 : 0;
                }
            }
            else if (json[i] is ',' or '[' or '{')
            {
                if (++values > Limits.JsonValues)
                {
                    throw new JsonException($"it has more than {Limits.JsonValues} values.");
                }
            }
            else if (json[i] is '-' or 'I' or 'N'
                && PythonNumbers.FirstOrDefault(n => string.CompareOrdinal(json, i, n, 0, n.Length) == 0) is { } number)
            {
                if (++count > Limits.PythonNumbers)
                {
                    throw new JsonException($"it has more than {Limits.PythonNumbers} numbers that JSON does not have, such as {number}.");
                }

                hidden.Append(json, done, i - done).Append('"').Append(NumberMark).Append(number).Append('"');
                done = i + number.Length;
                i = done - 1;
            }
        }

        return done == 0 ? json : hidden.Append(json, done, json.Length - done).ToString();
    }

    private static string ShowPythonNumbers(string json) => HiddenNumber().Replace(json, "${number}");

    [GeneratedRegex($"\"{NumberMark}(?<number>-?Infinity|NaN)\"")]
    private static partial Regex HiddenNumber();

    /// <summary>A member's text, or null if it is absent or no text.</summary>
    public static string? String(this JsonObject json, string key) =>
        json[key] is JsonValue value && value.TryGetValue(out string? text) ? text : null;

    /// <summary>A member's truth, or null if it is absent or neither true nor false.</summary>
    public static bool? Bool(this JsonObject json, string key) =>
        json[key] is JsonValue value && value.TryGetValue(out bool truth) ? truth : null;

    /// <summary>A member's number, or null if it is absent or no number.</summary>
    public static double? Number(this JsonObject json, string key) =>
        json[key] is JsonValue value && value.GetValueKind() == JsonValueKind.Number ? value.GetValue<double>() : null;

    /// <summary>A member's texts: of a list of texts, or of one text; empty if it is absent.</summary>
    public static IReadOnlyList<string> Strings(this JsonObject json, string key) => json[key] switch
    {
        JsonArray array => [.. array.Select(v => v?.ToString() ?? "")],
        JsonValue value when value.TryGetValue(out string? text) => [text],
        _ => [],
    };
}
