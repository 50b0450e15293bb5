using System.IO.Compression;

namespace UnslothMerge.Models;

/// <summary>
/// What transformers knows of its models' names: <c>transformers.json</c>, made by <c>tools/names.py</c>, one line an entry. The file is
/// unpacked when it is first asked, and only the lines that are asked for are parsed.
/// </summary>
internal static class TransformersData
{
    private static readonly Lazy<byte[]> Bytes = new(() =>
    {
        using var resource = typeof(TransformersData).Assembly.GetManifestResourceStream("transformers.json.gz")!;
        using var unpacked = new MemoryStream(1 << 19);
        new GZipStream(resource, CompressionMode.Decompress).CopyTo(unpacked);
        return unpacked.ToArray();
    });

    /// <summary>The release that the data are from: <c>5.24.0</c>.</summary>
    public static string Version => Line("{\"transformers\":"u8, Bytes.Value) is { } line ? (string)JsonNode.Parse(line)! : "";

    /// <summary>An entry of a section (<c>auto</c>, <c>tie_default</c>, <c>rules</c>, <c>classes</c>) by its task, model type or class;
    /// null if there is none.</summary>
    public static JsonNode? Find(string section, string key)
    {
        var start = Bytes.Value.AsSpan().IndexOf(Encoding.UTF8.GetBytes($"\n\"{section}\":{{\n"));
        var lines = Bytes.Value.AsSpan(start + 1);
        return Line(Encoding.UTF8.GetBytes($"\n\"{key}\":"), lines[..lines.IndexOf("\n}"u8)]) is { } line ? JsonNode.Parse(line) : null;
    }

    // What follows a beginning, up to the end of its line.
    private static byte[]? Line(ReadOnlySpan<byte> beginning, ReadOnlySpan<byte> lines)
    {
        var at = lines.IndexOf(beginning);
        if (at < 0)
        {
            return null;
        }

        var value = lines[(at + beginning.Length)..];
        var end = value.IndexOf((byte)'\n');
        return (end < 0 ? value : value[..end]).TrimEnd((byte)',').ToArray();
    }
}
