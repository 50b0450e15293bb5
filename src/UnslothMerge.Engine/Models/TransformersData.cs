using System.IO.Compression;

namespace UnslothMerge.Models;

/// <summary>
/// What transformers knows of its models: their names (<c>transformers.json</c>) and their linear layers (<c>linears.json</c>), made by
/// the scripts in <c>tools</c>, one line an entry. A file is unpacked when it is first asked, and only the lines that are asked for are
/// parsed.
/// </summary>
internal static class TransformersData
{
    private static readonly Lazy<byte[]> Names = new(() => Unpacked("transformers.json.gz"));
    private static readonly Lazy<byte[]> Linears = new(() => Unpacked("linears.json.gz"));

    /// <summary>The release that the data are from: <c>5.24.0</c>.</summary>
    public static string Version => Line("{\"transformers\":"u8, Names.Value) is { } line ? (string)JsonNode.Parse(line)! : "";

    /// <summary>An entry of a section (<c>auto</c>, <c>tie_default</c>, <c>rules</c>, <c>classes</c>) by its task, model type or class;
    /// null if there is none.</summary>
    public static JsonNode? Find(string section, string key)
    {
        var start = Names.Value.AsSpan().IndexOf(Encoding.UTF8.GetBytes($"\n\"{section}\":{{\n"));
        var lines = Names.Value.AsSpan(start + 1);
        return Entry(key, lines[..lines.IndexOf("\n}"u8)]);
    }

    /// <summary>The linear layers of a class; null if they are not known.</summary>
    public static JsonNode? LinearsOf(string @class) => Entry(@class, Linears.Value);

    private static byte[] Unpacked(string name)
    {
        using var resource = typeof(TransformersData).Assembly.GetManifestResourceStream(name)!;
        using var unpacked = new MemoryStream(1 << 19);
        new GZipStream(resource, CompressionMode.Decompress).CopyTo(unpacked);
        return unpacked.ToArray();
    }

    private static JsonNode? Entry(string key, ReadOnlySpan<byte> lines) =>
        Line(Encoding.UTF8.GetBytes($"\n\"{key}\":"), lines) is { } line ? JsonNode.Parse(line) : null;

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
