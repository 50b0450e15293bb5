using System.Security.Cryptography;
using UnslothMerge.Hub.Cache;

namespace UnslothMerge.Hub.Fetching;

/// <summary>A file of tensors on the Hub, of which a plan reads the header and a few values. What was read is compared with the whole file
/// when that is there: its hash is right, so what the plan knows is.</summary>
internal sealed class HubFile(HubModel model, RepositoryFile file) : RemoteFile
{
    // Holds the header of nearly every file of the Hub's thousand most used models.
    private const int HeadBytes = 100_001;

    /// <summary>What a block of a stream is a multiple of.</summary>
    public const int PartBytes = 64 * 1024;

    private readonly Lock _reading = new();
    private readonly List<(long Offset, int Length, byte[] Hash)> _seen = [];
    private byte[]? _head;
    private FileStatus? _downloaded;

    public override long Length => file.Size;

    public override string Path => model.Cache.Pointer(model.Commit, file.Path);

    public override bool IsDownloaded => _downloaded is not null;

    public override bool IsUnchanged => _downloaded is null || FileStatus.Of(Path) == _downloaded;

    /// <summary>The repository.</summary>
    public HubModel Model => model;

    /// <summary>What the listing says of the file.</summary>
    public RepositoryFile File => file;

    /// <summary>Its bytes.</summary>
    public HubContent Content { get; } = new(model.Client, model.Cache.Id, model.Commit, file);

    /// <summary>Reads it during a run; null before and after.</summary>
    public HubStream? Stream { get; set; }

    /// <summary>Reads the beginning, so that a plan finds it there.</summary>
    public void Prefetch() => _ = Head();

    public override void Read(long offset, Span<byte> destination)
    {
        if (Stream is { } stream)
        {
            stream.Read(this, offset, destination);
            return;
        }

        var head = Head().AsSpan();
        var known = (int)Math.Clamp(head.Length - offset, 0, destination.Length);
        if (known > 0)
        {
            head.Slice((int)offset, known).CopyTo(destination);
        }

        if (known < destination.Length)
        {
            var bytes = Fetch(offset + known, destination.Length - known);
            Remember(offset + known, bytes);
            bytes.CopyTo(destination[known..]);
        }
    }

    /// <summary>Takes the file in the cache for the one on the Hub.</summary>
    public void TakeDownloaded()
    {
        using (var handle = RegularFile.Open(Path))
        {
            RequireSeen(0, Length, (offset, bytes) => handle.ReadFully(bytes, offset));
        }

        _downloaded = FileStatus.Of(Path);
    }

    /// <summary>Refuses bytes of the file that are not what a plan read of them.</summary>
    public void RequireSeen(long start, ReadOnlySpan<byte> block)
    {
        var bytes = block.ToArray();
        RequireSeen(start, bytes.Length, (offset, part) =>
        {
            bytes.AsSpan((int)(offset - start), part.Length).CopyTo(part);
            return true;
        });
    }

    /// <summary>The error of a file whose bytes are not those of the Hub's listing.</summary>
    public HubException Damaged() =>
        new(MergeError.HubUnavailable,
            $"'{file.Path}' of '{model.Cache.Id}' came damaged: its bytes are not those whose hash is {file.ETag}.", model.Cache.Id,
            "Run Merge-LoraModel again: nothing of it was kept. Something between here and the Hub changed the bytes.");

    private void RequireSeen(long start, long length, Func<long, byte[], bool> read)
    {
        foreach (var (offset, count, hash) in Seen().Where(s => s.Offset >= start && s.Offset < start + length))
        {
            var bytes = new byte[count];
            if (!read(offset, bytes) || !SHA256.HashData(bytes).AsSpan().SequenceEqual(hash))
            {
                throw Damaged();
            }
        }
    }

    private List<(long Offset, int Length, byte[] Hash)> Seen()
    {
        lock (_seen)
        {
            return [.. _seen];
        }
    }

    // In parts that lie in one block each, whatever the size of a stream's blocks.
    private void Remember(long offset, byte[] bytes)
    {
        lock (_seen)
        {
            for (var start = 0; start < bytes.Length;)
            {
                var end = (int)Math.Min(bytes.Length, start + PartBytes - ((offset + start) % PartBytes));
                _seen.Add((offset + start, end - start, SHA256.HashData(bytes.AsSpan(start..end))));
                start = end;
            }
        }
    }

    private byte[] Head()
    {
        lock (_reading)
        {
            if (_head is null)
            {
                _head = Fetch(0, (int)Math.Min(HeadBytes, file.Size));
                Remember(0, _head);
            }

            return _head;
        }
    }

    private byte[] Fetch(long offset, int length)
    {
        var bytes = new byte[length];
        Content.Read(offset, length, new RateBoard(model.Client.Clock),
            (at, part) => part.CopyTo(bytes.AsSpan((int)(at - offset))), CancellationToken.None);
        return bytes;
    }
}
