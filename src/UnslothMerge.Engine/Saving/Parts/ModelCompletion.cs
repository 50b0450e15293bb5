namespace UnslothMerge.Saving.Parts;

/// <summary>Makes a model of the parts that several workers have saved on the disk.</summary>
internal sealed class ModelCompletion(SavedParts parts, bool force)
{
    /// <summary>The real path of the model.</summary>
    public string Path { get; } = Destination.Check(parts.Given, [], force: true).Path;

    /// <summary>Verifies every shard by its record, writes the other files, and gives the model its name. If that fails, all parts stay.
    /// Where one that was killed had done all of it, only the parts' directory is left to be deleted.</summary>
    public IReadOnlyList<ShardRecord> Complete(IDisk disk, bool sync, int workers, Action<long, long>? progress,
        CancellationToken cancellation)
    {
        var destination = Destination.Check(parts.Given, [], force: true);
        try
        {
            if (FindComplete(workers, progress, cancellation) is { } complete)
            {
                using var there = StagingDirectory.Create(destination, disk, takesParts: true);
                return complete;
            }

            destination = Destination.Check(parts.Given, [], force);
            using var staging = StagingDirectory.Create(destination, disk, takesParts: true);
            staging.KeepAll();
            var shards = RequireAll(Verify(null, workers, progress, cancellation));
            staging.RemoveAllBut(parts.Names.ToHashSet(StringComparer.Ordinal));
            CarriedFiles.RequireReadable(parts.Files);
            CarriedFiles.Copy(parts.Files, staging.Path, disk);
            if (parts.Plan.Index(shards.Sum(s => s.Bytes)) is var (name, index))
            {
                disk.WriteText(System.IO.Path.Combine(staging.Path, name), index);
            }

            if (sync)
            {
                disk.FlushTree(staging.Path);
            }
            else
            {
                UnsyncedFiles.Note(disk, staging.Path);
            }

            cancellation.ThrowIfCancellationRequested();
            staging.Land(sync);
            return shards;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw destination.NotWritten(e);
        }
    }

    // Null unless exactly this model is at the destination. Moves that are half done are undone first.
    private List<ShardRecord>? FindComplete(int workers, Action<long, long>? progress, CancellationToken cancellation)
    {
        if (File.Exists(System.IO.Path.Combine(parts.Home, ModelSwap.NoteName))
            || !parts.Files.All(f => HasBytes(f.Key, RegularFile.ReadAllBytes(f.Value)) || IsUnsyncedRecord(f.Key, f.Value)))
        {
            return null;
        }

        var found = Verify(Path, workers, progress, cancellation);
        var shards = found.OfType<ShardRecord>().ToList();
        var index = parts.Plan.Index(shards.Sum(s => s.Bytes));
        return shards.Count == found.Length && (index is not var (name, text) || HasBytes(name, Encoding.UTF8.GetBytes(text)))
            ? shards : null;
    }

    private bool IsUnsyncedRecord(string name, string file) => name == MergeRecord.FileName && Directory.Exists(Path)
        && HasBytes(name, Encoding.UTF8.GetBytes(UnsyncedFiles.Text(RegularFile.ReadText(file), Path)));

    private bool HasBytes(string name, byte[] bytes) => System.IO.Path.Combine(Path, name) is var file && File.Exists(file)
        && RegularFile.ReadAllBytes(file).AsSpan().SequenceEqual(bytes);

    private ShardRecord?[] Verify(string? folder, int workers, Action<long, long>? progress, CancellationToken cancellation)
    {
        var total = parts.Names.Sum(n => parts.Records.Read(n, parts.Fingerprint)?.Bytes ?? 0);
        var done = 0L;
        return parts.Records.Verify(parts.Names, parts.Fingerprint, workers, b => Interlocked.Add(ref done, b),
            () => progress?.Invoke(Interlocked.Read(ref done), total), cancellation, folder);
    }

    private IReadOnlyList<ShardRecord> RequireAll(ShardRecord?[] found)
    {
        parts.RequireNone([.. parts.Plan.Shards.Zip(found).Where(s => s.Second is null).Select(s => s.First)],
            "not there, or not as the records say");
        return [.. found.OfType<ShardRecord>()];
    }
}
