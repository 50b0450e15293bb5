using System.Collections.Concurrent;

namespace UnslothMerge.Hub.Publishing;

/// <summary>Sends the shards of a model as they are written: each is sent and deleted while the next one is merged, so that at most two
/// are on the disk. They are visible once they are committed.</summary>
internal sealed class ShardStream : IDisposable
{
    /// <summary>The most shards on the disk at the same time.</summary>
    public const int MaxShards = 2;

    private const int Threads = 8;

    private readonly Publisher _publisher;
    private readonly Publication _publication;
    private readonly BlockingCollection<string> _written = [];
    private readonly List<(UploadFile File, Preupload Mode)> _shards = [];
    private readonly Workers _workers;
    private readonly Action _report;
    private readonly Action<UploadFile>? _arrived;
    private int _present;

    /// <summary>Begins to send. What is reported is on the caller's thread, while it waits; what is done when a shard is there is on
    /// another.</summary>
    public ShardStream(Publisher publisher, Publication publication, PublishPlan plan, Action<UploadFile>? arrived,
        IProgress<UploadProgress>? progress, CancellationToken cancellation)
    {
        _publisher = publisher;
        _publication = publication;
        _arrived = arrived;
        _report = () => progress?.Report(new UploadProgress("Sending", _publication.Uploader.Done, _publication.Uploader.Total));
        _workers = Workers.Start("upload", Threads + 1, (i, stop) =>
        {
            if (i == 0)
            {
                Prepare(plan, stop);
            }
            else
            {
                _publication.Uploader.Work(stop);
            }
        }, cancellation);
    }

    /// <summary>Cancelled by the caller, and when sending has failed.</summary>
    public CancellationToken Token => _workers.Token;

    /// <summary>Merges a shard once there is room for it, and sends it. The function gives the path of the file.</summary>
    public void Add(Func<CancellationToken, string> merge)
    {
        _workers.WaitUntil(() => Volatile.Read(ref _present) < MaxShards, _report);
        try
        {
            Interlocked.Increment(ref _present);
            _written.Add(merge(Token), Token);
        }
        catch (OperationCanceledException)
        {
            // Why it was stopped is what the user must know.
            _workers.ThrowIfFailed();
            throw;
        }
    }

    /// <summary>Waits until all shards are there.</summary>
    public IReadOnlyList<(UploadFile File, Preupload Mode)> Wait()
    {
        _written.CompleteAdding();
        _workers.Wait(_report);
        return _shards;
    }

    public void Dispose()
    {
        _workers.Dispose();
        _written.Dispose();
    }

    // Hashes each shard and finds out whether it is to be sent.
    private void Prepare(PublishPlan plan, CancellationToken stop)
    {
        foreach (var path in _written.GetConsumingEnumerable(stop))
        {
            var file = UploadFile.At(path, Path.GetFileName(path));
            file.Hash(_ => { }, stop);
            var mode = _publisher.ModeOf(file, stop);
            _shards.Add((file, mode));
            if (mode.Oid == file.Sha256 || !_publisher.Announce(_publication, plan, [file], Delete, stop))
            {
                Delete(file);
            }

            void Delete(UploadFile sent)
            {
                sent.RequireUnchanged();
                File.Delete(path);
                Interlocked.Decrement(ref _present);
                _arrived?.Invoke(sent);
            }
        }

        _publication.Uploader.CompleteAdding();
    }
}
