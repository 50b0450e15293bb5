using UnslothMerge.Files;
using UnslothMerge.IO;
using UnslothMerge.Planning;

namespace UnslothMerge.Execution;

/// <summary>A shard that is being written: its file, and the checksum of what was written, if one was asked for.</summary>
internal sealed class ShardFile : IDisposable
{
    private readonly IDisk _disk;

    private ShardFile(IDisk disk, WriteShard shard, string path, SafeFileHandle handle, Checksum? checksum) =>
        (_disk, Shard, Path, Handle, Checksum) = (disk, shard, path, handle, checksum);

    public WriteShard Shard { get; }

    public string Path { get; }

    public SafeFileHandle Handle { get; }

    public Checksum? Checksum { get; }

    /// <summary>Makes the file, with its header. Preallocated: a full disk shows before the work, and writes need not look for
    /// space.</summary>
    public static ShardFile Create(IDisk disk, string path, WriteShard shard, bool preallocated, bool summed)
    {
        var layout = shard.Layout;
        var handle = disk.Create(path, preallocated ? layout.FixedLength : 0);
        var file = new ShardFile(disk, shard, path, handle, summed ? new Checksum(layout.FixedLength) : null);
        try
        {
            disk.SetLength(handle, layout.FixedLength);
            file.Write(layout.Header, 0);
            return file;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Writes bytes, each once.</summary>
    public void Write(ReadOnlySpan<byte> bytes, long at)
    {
        Checksum?.Add(at, bytes);
        _disk.Write(Handle, bytes, at);
    }

    /// <summary>Writes what depends on the data, the tail and then the header that describes it, once all else is written.</summary>
    public FinishedShard Finish(IReadOnlyList<TensorResult> results)
    {
        var layout = Shard.Layout;
        if (!layout.IsDeferred)
        {
            return new FinishedShard(Shard.Name, layout.FixedLength, Checksum?.Value, results);
        }

        var contents = results.SelectMany(r => r.Written.Sink.Deferred.Zip(r.Deferred))
            .ToDictionary(d => d.First.Name, d => d.Second, StringComparer.Ordinal);
        var (header, tail) = layout.Complete(contents);
        _disk.Write(Handle, tail, layout.FixedLength);
        Checksum?.Add(0, layout.Header);
        Write(header, 0);
        return new FinishedShard(Shard.Name, layout.FixedLength + tail.Length, Checksum?.With(tail), results);
    }

    public void Dispose() => Handle.Dispose();
}

/// <summary>A shard that was written whole: its length, its checksum if one was asked for, and the results of its tensors.</summary>
internal sealed record FinishedShard(string Name, long Bytes, ulong? Checksum, IReadOnlyList<TensorResult> Tensors);
