namespace UnslothMerge.Execution;

/// <summary>A shard that is being written: its file, and the checksum of what was written, if one was asked for. A clone of its origin has
/// the header and the tensors that stay from the start.</summary>
internal sealed class ShardFile : IDisposable
{
    private readonly IDisk _disk;

    private ShardFile(IDisk disk, WriteShard shard, string path, SafeFileHandle handle, bool summed)
    {
        (_disk, Shard, Path, Handle) = (disk, shard, path, handle);
        Checksum = summed ? new Checksum(shard.Layout.FixedLength) : null;
    }

    public WriteShard Shard { get; }

    public string Path { get; }

    public SafeFileHandle Handle { get; }

    public Checksum? Checksum { get; }

    /// <summary>Why it is no clone; null if it is one.</summary>
    public string? Obstacle { get; private init; }

    /// <summary>The bytes that it shares with its origin.</summary>
    public long Cloned => Obstacle is null ? Shard.OriginBytes : 0;

    /// <summary>Makes the file as a clone of its origin; null, and why, if that cannot be.</summary>
    public static ShardFile? TryClone(IDisk disk, string path, WriteShard shard, bool summed, out string? obstacle)
    {
        obstacle = shard.Origin is null ? "no file of the base has its header"
            : shard.Origin.Remote is { IsDownloaded: false } ? "the base is read from the Hub"
            : !shard.Origin.IsUnchanged ? "the base has changed"
            : null;
        return obstacle is null && disk.TryClone(shard.Origin!.Path, path, out obstacle) is { } handle
            ? new ShardFile(disk, shard, path, handle, summed) : null;
    }

    /// <summary>Makes the file, with its header. Preallocated: a full disk shows before the work, and writes need not look for
    /// space.</summary>
    public static ShardFile Create(IDisk disk, string path, WriteShard shard, bool preallocated, bool summed, string? obstacle)
    {
        var layout = shard.Layout;
        var handle = disk.Create(path, preallocated ? layout.FixedLength : 0);
        var file = new ShardFile(disk, shard, path, handle, summed) { Obstacle = obstacle };
        try
        {
            disk.SetLength(handle, layout.FixedLength);
            layout.Header.Write(file.Write);
            return file;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>True if a tensor is there already.</summary>
    public bool Has(WriteTensor tensor) => Obstacle is null && Shard.IsInOrigin(tensor);

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
            return new FinishedShard(Shard.Name, layout.FixedLength, Checksum?.Value, results) { Cloned = Cloned, Obstacle = Obstacle };
        }

        var contents = results.SelectMany(r => r.Written.Sink.Deferred.Zip(r.Deferred))
            .ToDictionary(d => d.First.Name, d => d.Second, StringComparer.Ordinal);
        var (header, tail) = layout.Complete(contents);
        _disk.Write(Handle, tail, layout.FixedLength);
        layout.Header.Write((bytes, at) => Checksum?.Add(at, bytes));
        header.Write(Write);
        return new FinishedShard(Shard.Name, layout.FixedLength + tail.Length, Checksum?.With(tail), results) { Obstacle = Obstacle };
    }

    /// <summary>Closes the file, which is whole.</summary>
    public void Close() => _disk.Close(Handle);

    public void Dispose() => Handle.Dispose();
}

/// <summary>A shard that was written whole: its length, the checksum of what was written if one was asked for, and the results of its
/// tensors.</summary>
internal sealed record FinishedShard(string Name, long Bytes, ulong? Checksum, IReadOnlyList<TensorResult> Tensors)
{
    /// <summary>The bytes that it shares with a file of the base, which its checksum takes for zeros.</summary>
    public long Cloned { get; init; }

    /// <summary>Why it shares none; null if it does, or an earlier save has written it.</summary>
    public string? Obstacle { get; init; }

    /// <summary>From its first piece to its last; null if an earlier save wrote it.</summary>
    public TimeSpan? Time { get; init; }

    /// <summary>In words, how it was written.</summary>
    public string How => Cloned == Bytes ? "cloned from the base"
        : Cloned > 0 ? $"cloned from the base, {ByteSize.Text(Bytes - Cloned)} written anew"
        : Obstacle is null ? "written" : $"written, not cloned: {Obstacle}";
}
