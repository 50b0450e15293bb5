using UnslothMerge.Hub.Cache;

namespace UnslothMerge.Hub.Fetching;

/// <summary>The files of a plan that are on the Hub yet, repository by repository.</summary>
internal static class PendingDownloads
{
    /// <summary>What a run that reads these files has to download first, or reads from the Hub while it runs.</summary>
    public static IReadOnlyList<(HubModel Model, IReadOnlyList<HubFile> Files)> Of(IEnumerable<StoredFile> files, bool streamed = false) =>
        [.. All(files).Where(d => d.Model.Streams == streamed)];

    /// <summary>Lets a run read from the Hub what the disk of the cache cannot hold; gives the models for which that is so.</summary>
    public static IReadOnlyList<HubModel> StreamWithoutRoom(IEnumerable<StoredFile> files)
    {
        var large = Of(files).Where(d => !d.Model.HasRoomFor(d.Files.Select(f => f.File))).Select(d => d.Model).ToList();
        large.ForEach(m => m.Streams = true);
        return large;
    }

    private static IEnumerable<(HubModel Model, IReadOnlyList<HubFile> Files)> All(IEnumerable<StoredFile> files) =>
        files.Select(f => f.Remote).OfType<HubFile>().Where(f => !f.IsDownloaded).Distinct().GroupBy(f => f.Model)
            .Select(g => (g.Key, (IReadOnlyList<HubFile>)[.. g]));

    /// <summary>Downloads them; what was read of them before is compared.</summary>
    public static void Run(HubModel model, IReadOnlyList<HubFile> files, Action<DownloadProgress>? progress, CancellationToken cancellation)
    {
        model.Download([.. files.Select(f => f.File)], progress, cancellation);
        foreach (var file in files)
        {
            file.TakeDownloaded();
        }
    }

    /// <summary>How long a download takes at the rate at which the beginnings of some files come; null if none is needed.</summary>
    public static TimeSpan? Estimate(IReadOnlyList<HubFile> files, CancellationToken cancellation)
    {
        const int Connections = 4, ProbeBytes = 2 * 1024 * 1024;
        if (files.Count == 0)
        {
            return null;
        }

        var parts = files.SelectMany(f => Enumerable.Range(0, Connections).Select(i => (File: f, Offset: (long)i * ProbeBytes)))
            .Where(p => p.Offset < p.File.Length).Take(Connections)
            .Select(p => (p.File, p.Offset, Length: (int)Math.Min(ProbeBytes, p.File.Length - p.Offset))).ToList();
        var clock = Stopwatch.StartNew();
        Workers.ForEach("probe", Connections, parts, (p, _) => p.File.Read(p.Offset, new byte[p.Length]), () => { }, cancellation);
        return clock.Elapsed * ((double)files.Sum(f => f.Length) / parts.Sum(p => (long)p.Length));
    }
}
