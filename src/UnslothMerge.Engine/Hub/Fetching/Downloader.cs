using System.Runtime.ExceptionServices;
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
    private readonly CancellationTokenSource _stop;
    private long _finished;
    private int _opening;
    private volatile string _current;
    private ExceptionDispatchInfo? _failure;

    private Downloader(
        HubClient client, CachedRepository cache, string commit, IReadOnlyList<RepositoryFile> files, int segmentBytes,
        CancellationToken cancellation)
    {
        (_client, _cache, _commit, _segmentBytes) = (client, cache, commit, segmentBytes);
        _waiting = new(files.Select(f => (f, 1)));
        _total = files.Sum(f => f.Size);
        _current = files[0].Path;
        _rates = new RateBoard(client.Clock);
        _stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
    }

    /// <summary>Downloads files, unless the cache has them.</summary>
    public static void Run(
        HubClient client, CachedRepository cache, string commit, IReadOnlyList<RepositoryFile> files, Action<DownloadProgress>? progress,
        CancellationToken cancellation, int segmentBytes = PartialFile.UsualSegmentBytes)
    {
        var missing = files.Where(f => !cache.TryLink(commit, f)).OrderByDescending(f => f.Size).ToList();
        if (missing.Count > 0)
        {
            cache.Tag();
            var downloader = new Downloader(client, cache, commit, missing, segmentBytes, cancellation);
            using (downloader._stop)
            {
                downloader.Run(progress, cancellation);
            }
        }
    }

    private void Run(Action<DownloadProgress>? progress, CancellationToken cancellation)
    {
        var threads = Enumerable.Range(0, Connections)
            .Select(i => new Thread(Work) { IsBackground = true, Name = $"download {i}" }).ToList();
        threads.ForEach(t => t.Start());
        try
        {
            foreach (var thread in threads)
            {
                while (!thread.Join(Interval))
                {
                    Report(progress);
                }
            }
        }
        finally
        {
            // The handler may throw. Threads must end before their files are closed.
            _stop.Cancel();
            threads.ForEach(t => t.Join());
            _open.ForEach(f => f.Dispose());
        }

        _failure?.Throw();
        cancellation.ThrowIfCancellationRequested();
        Report(progress);
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

    private void Work()
    {
        try
        {
            while (Next() is { } work && !_stop.IsCancellationRequested)
            {
                work();
            }
        }
#pragma warning disable CA1031 // the first failure is rethrown on the caller's thread
        catch (Exception e)
#pragma warning restore CA1031
        {
            Interlocked.CompareExchange(ref _failure, ExceptionDispatchInfo.Capture(e), null);
            _stop.Cancel();
        }
    }

    // A segment of an open file, else the next file. While another thread opens one, there may soon be segments.
    private Action? Next()
    {
        lock (_gate)
        {
            while (!_stop.IsCancellationRequested)
            {
                foreach (var download in _open)
                {
                    if (download.Next() is { } segment)
                    {
                        return () => Fetch(download, segment);
                    }
                }

                if (_waiting.TryDequeue(out var next))
                {
                    _opening++;
                    return () => Open(next.File, next.Try);
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

    private void Open(RepositoryFile file, int attempt)
    {
        FileDownload? download = null;
        try
        {
            download = new FileDownload(_client, _cache, _commit, file, attempt, _segmentBytes, _stop.Token);
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

    private void Fetch(FileDownload download, int segment)
    {
        _current = download.File.Path;
        if (download.Fetch(segment, _rates, _stop.Token) is { } isRight)
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
