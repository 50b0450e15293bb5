using UnslothMerge.Hub.Cache;

namespace UnslothMerge.PowerShell.Common;

/// <summary>Says what would be downloaded.</summary>
internal static class DownloadText
{
    private const int MaxFiles = 12;

    /// <summary>In one line.</summary>
    public static string Summary(MissingFiles missing) =>
        $"Download {Amount(missing.Now)} of '{missing.Model}' into the cache"
        + (missing.Later.Count == 0 ? "" : $", and {Amount(missing.Later)} when the merge is saved");

    /// <summary>The summary, and one line per file.</summary>
    public static string Text(MissingFiles missing) =>
        $"Performing the operation \"{Summary(missing)}\" on target \"{missing.Model.Reference}\"."
        + Lines(missing.Now.Concat(missing.Later));

    /// <summary>What a save downloads first, and what it reads from the Hub.</summary>
    public static string Text(MergePlan plan)
    {
        return string.Concat(Of(streamed: false).Concat(Of(streamed: true)));

        IEnumerable<string> Of(bool streamed) => PendingDownloads.Of(plan.InputFiles, streamed).Select(d =>
        {
            var files = d.Files.Select(f => f.File).ToList();
            return (streamed ? $"\nRead {Amount(files)} of '{d.Model}' from the Hub, and keep nothing of it."
                : $"\nDownload first {Amount(files)} of '{d.Model}' into the cache.") + Lines(files);
        });
    }

    private static string Amount(IReadOnlyList<RepositoryFile> files) =>
        $"{UnslothMerge.Amount.Text(files.Count, "file")} ({ByteSize.Text(files.Sum(f => f.Size))})";

    private static string Lines(IEnumerable<RepositoryFile> files)
    {
        var all = files.OrderByDescending(f => f.Size).ToList();
        var shown = all.Take(MaxFiles).ToList();
        var width = shown.Max(f => f.Path.Length);
        var more = all.Count - shown.Count;
        return string.Concat(shown.Select(f => $"\n  {f.Path.PadRight(width)}  {ByteSize.Text(f.Size),8}  from the Hub"))
            + (more > 0 ? $"\n  and {more} smaller ones" : "");
    }
}
