using UnslothMerge.Hub.Cache;

namespace UnslothMerge.Hub.Fetching;

/// <summary>How far a download is.</summary>
internal sealed record DownloadProgress(long Done, long Total, string File);

/// <summary>Downloads files of a commit into the cache: several files and several ranges of a large one at once. A file gets its name when
/// its hash is right. Threads work; the caller's waits, reports and can cancel.</summary>
internal sealed class Downloader
{
    // As many as the Hub's own tools open.
    private const int Connections = 8;

    // A damaged file is fetched once more.
    private const int Tries = 2;

    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(100);

    private readonly HubClient _client;
    private readonly CachedRepository _cache;
    private readonly string _commit;
    private readonly Queue<(RepositoryFile File, int Try)> _waiting;
    private readonly RateBoard _rates;
    private readonly object _gate = new();
    private readonly List<FileDownload> _open = [];
    private readonly long _total;
    private readonly int _segmentBytes;
    private long _finished;
    private int _opening;
    private volatile string _current;

    private Downloader(
        HubClient client, CachedRepository cache, string commit, IReadOnlyList<RepositoryFile> files, int segmentBytes)
    {
        (_client, _cache, _commit, _segmentBytes) = (client, cache, commit, segmentBytes);
        _waiting = new(files.Select(f => (f, 1)));
        _total = files.Sum(f => f.Size);
        _current = files[0].Path;
        _rates = new RateBoard(client.Clock);
    }

    /// <summary>Downloads files, unless the cache has them.</summary>
    public static void Run(
        HubClient client, CachedRepository cache, string commit, IReadOnlyList<RepositoryFile> files, Action<DownloadProgress>? progress,
        CancellationToken cancellation, int segmentBytes = PartialFile.UsualSegmentBytes)
    {
        Downloader? downloader = null;
        try
        {
            var missing = files.Where(f => !cache.TryLink(commit, f)).OrderByDescending(f => f.Size).ToList();
            if (missing.Count > 0)
            {
                cache.Tag();
                downloader = new Downloader(client, cache, commit, missing, segmentBytes);
                downloader.Run(progress, cancellation);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw cache.Failed(downloader?._current ?? files[0].Path, e);
        }
    }

    private void Run(Action<DownloadProgress>? progress, CancellationToken cancellation)
    {
        try
        {
            Workers.Run("download", Connections, (_, stop) => Work(stop), () => Report(progress), cancellation);
        }
        finally
        {
            _open.ForEach(f => f.Dispose());
        }
    }

    private void Report(Action<DownloadProgress>? progress)
    {
        if (progress is null)
        {
            return;
        }

        DownloadProgress now;
        lock (_gate)
        {
            now = new DownloadProgress(_finished + _open.Sum(f => f.Done), _total, _current);
        }

        progress(now);
    }

    private void Work(CancellationToken stop)
    {
        while (Next(stop) is { } work && !stop.IsCancellationRequested)
        {
            work();
        }
    }

    // A segment of an open file, else the next file. While another thread opens one, there may soon be segments.
    private Action? Next(CancellationToken stop)
    {
        lock (_gate)
        {
            while (!stop.IsCancellationRequested)
            {
                foreach (var download in _open)
                {
                    if (download.Next() is { } segment)
                    {
                        return () => Fetch(download, segment, stop);
                    }
                }

                if (_waiting.TryDequeue(out var next))
                {
                    _opening++;
                    return () => Open(next.File, next.Try, stop);
                }

                if (_opening == 0)
                {
                    return null;
                }

                Monitor.Wait(_gate, Interval);
            }

            return null;
        }
    }

    private void Open(RepositoryFile file, int attempt, CancellationToken stop)
    {
        FileDownload? download = null;
        try
        {
            download = new FileDownload(_client, _cache, _commit, file, attempt, _segmentBytes, stop);
        }
        finally
        {
            lock (_gate)
            {
                _opening--;
                if (download is not null)
                {
                    _open.Add(download);
                }

                Monitor.PulseAll(_gate);
            }
        }

        if (!download.HasSegments)
        {
            Close(download, download.Finish());
        }
    }

    private void Fetch(FileDownload download, int segment, CancellationToken stop)
    {
        _current = download.File.Path;
        if (download.Fetch(segment, _rates, stop) is { } isRight)
        {
            Close(download, isRight);
        }
    }

    private void Close(FileDownload download, bool isRight)
    {
        var file = download.File;
        lock (_gate)
        {
            _open.Remove(download);
            download.Dispose();
            if (isRight)
            {
                _finished += file.Size;
                return;
            }

            _waiting.Enqueue((file, download.Attempt + 1));
        }

        if (download.Attempt == Tries)
        {
            throw new HubException(
                MergeError.HubUnavailable,
                $"'{file.Path}' of '{_cache.Id}' was downloaded {Tries} times, and both times its hash was not {file.ETag}.", _cache.Id,
                "Something between here and the Hub changes the bytes: try another network or proxy. Nothing of it was kept.");
        }

        _client.Say($"'{file.Path}' of '{_cache.Id}' came damaged: its hash is not {file.ETag}. It is downloaded again.", isWarning: true);
    }
}
