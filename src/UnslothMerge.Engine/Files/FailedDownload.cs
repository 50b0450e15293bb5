namespace UnslothMerge.Files;

/// <summary>What a download or a checkout leaves in the place of a file: told from the first bytes.</summary>
internal static class FailedDownload
{
    private const int MaxErrorLength = 64 * 1024;

    /// <summary>The error for a file that holds something else than its name says; null if it may be what it says.</summary>
    public static MergeException? Find(string path, MergeError error)
    {
        using var file = new FileStream(RegularFile.Open(path), FileAccess.Read);
        var start = new byte[Math.Min(file.Length, MaxErrorLength)];
        file.ReadExactly(start);
        return start.Length == 0 ? Error("is empty: it has 0 bytes", "Download, copy or save it again.")
            : start.AsSpan().IndexOfAnyExcept((byte)0) < 0 ? Error(
                "holds zeros in place of its data, as a loss of power leaves a file that was not yet on the disk",
                "Download, copy or save it again.")
            : start.AsSpan().StartsWith("version https://git-lfs"u8) ? Error(
                "is a Git LFS pointer, not the file itself: run git lfs pull", $"Run git lfs pull in '{Path.GetDirectoryName(path)}'.")
            : start.AsSpan().StartsWith("GGUF"u8) ? Error(
                "is a GGUF file", "Use the original model in safetensors: a GGUF file is what a merged model is converted to.")
            : Encoding.UTF8.GetString(start).TrimStart('\uFEFF', ' ', '\n', '\r', '\t') is var text && IsHtml(text) ? Error(
                "is an HTML page, not the file itself", "Sign in, and repeat the download, which met a sign-in or error page.")
            : ErrorOf(text) is { } answer ? Error(
                $"is the error that a server answered, not the file itself: {answer}", "Ask for access, and repeat the download.")
            : null;

        MergeException Error(string what, string advice) => new(error, $"'{path}' {what}.", path, advice);
    }

    private static bool IsHtml(string text) =>
        text.StartsWith("<!doctype html", StringComparison.OrdinalIgnoreCase)
        || text.StartsWith("<html", StringComparison.OrdinalIgnoreCase);

    // {"error": "Access to model org/name is restricted …"}
    private static string? ErrorOf(string text)
    {
        try
        {
            return text.StartsWith('{') ? (JsonNode.Parse(text) as JsonObject)?["error"]?.ToString() : null;
        }
        catch (Exception e) when (e is JsonException or ArgumentException or InvalidOperationException)
        {
            return null;
        }
    }
}
