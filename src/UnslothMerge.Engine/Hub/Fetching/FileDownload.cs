using UnslothMerge.Hub.Cache;

namespace UnslothMerge.Hub.Fetching;

/// <summary>One file on its way into the cache. Threads fetch its segments in any order; each that completes one hashes as far as there is
/// no gap, so that the hash is known soon after the last byte.</summary>
internal sealed class FileDownload : IDisposable
{
    private const int HashBytes = 1024 * 1024;

    private readonly CachedRepository _cache;
    private readonly string _commit;
    private readonly HubContent _content;
    private readonly IDisposable _lock;
    private readonly PartialFile? _partial;
    private readonly Lock _hashing = new();
    private readonly bool[] _isThere;
    private readonly ContentHash? _hash;
    private long _done;
    private int _hashed;
    private int _next;

    /// <summary>Waits for the lock of a content, and looks what is there of it.</summary>
    public FileDownload(
        HubClient client, CachedRepository cache, string commit, RepositoryFile file, int attempt, int segmentBytes,
        CancellationToken cancellation)
    {
        (_cache, _commit, File, Attempt) = (cache, commit, file, attempt);
        _content = new HubContent(client, cache.Id, commit, file);
        _lock = cache.Lock(file.ETag, cancellation);
        try
        {
            // Another process may have been faster.
            _partial = cache.TryLink(commit, file) ? null : PartialFile.Open(cache.Disk, cache.Partial(file.ETag), file.Size, segmentBytes);
        }
        catch
        {
            _lock.Dispose();
            throw;
        }

        _isThere = new bool[_partial?.Segments ?? 0];
        _hash = _partial is null ? null : new ContentHash(file);
        _done = _partial?.Done ?? file.Size;
    }

    /// <summary>The file.</summary>
    public RepositoryFile File { get; }

    /// <summary>The bytes that are there.</summary>
    public long Done => Interlocked.Read(ref _done);

    /// <summary>1, or more if it came damaged before.</summary>
    public int Attempt { get; }

    /// <summary>False for a file that the cache has already, and for an empty one.</summary>
    public bool HasSegments => _isThere.Length > 0;

    /// <summary>Takes the next segment; null if all are taken.</summary>
    public int? Next() => Interlocked.Increment(ref _next) - 1 is var segment && segment < _isThere.Length ? segment : null;

    /// <summary>Downloads what a segment lacks. The thread that completes the file gets true, or false if its bytes are wrong; the others
    /// get null.</summary>
    public bool? Fetch(int segment, RateBoard rates, CancellationToken cancellation)
    {
        _content.Read(_partial!.Offset(segment), _partial.Left(segment), rates, (_, bytes) => Write(segment, bytes), cancellation);
        lock (_hashing)
        {
            _isThere[segment] = true;
            while (_hashed < _isThere.Length && _isThere[_hashed])
            {
                Hash(_hashed++);
            }

            return _hashed == _isThere.Length ? Finish() : null;
        }
    }

    /// <summary>Lets the commit have the file if its hash is right.</summary>
    public bool Finish()
    {
        if (_partial is null)
        {
            return true;
        }

        if (!_hash!.IsRight())
        {
            _partial.Restart();
            return false;
        }

        _partial.Close();
        _cache.Take(_commit, File);
        _partial.Forget();
        return true;
    }

    public void Dispose()
    {
        _partial?.Dispose();
        _hash?.Dispose();
        _lock.Dispose();
    }

    private void Write(int segment, ReadOnlySpan<byte> bytes)
    {
        try
        {
            _partial!.Write(segment, bytes);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw _cache.Failed(File.Path, e);
        }

        Interlocked.Add(ref _done, bytes.Length);
    }

    private void Hash(int segment)
    {
        var buffer = ArrayPool<byte>.Shared.Rent(HashBytes);
        var position = (long)segment * _partial!.SegmentBytes;
        var end = Math.Min(File.Size, position + _partial.SegmentBytes);
        while (position < end)
        {
            var bytes = buffer.AsSpan(0, (int)Math.Min(buffer.Length, end - position));
            _partial.Read(position, bytes);
            _hash!.Append(bytes);
            position += bytes.Length;
        }

        ArrayPool<byte>.Shared.Return(buffer);
    }
}
