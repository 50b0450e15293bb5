namespace UnslothMerge.Saving;

/// <summary>The records of a staging directory's shards: a small file for each, beside the model.</summary>
internal sealed class ShardRecords(string staging)
{
    public const string FolderName = "shards";

    /// <summary>Where they lie.</summary>
    public string Folder { get; } = Path.Combine(staging, FolderName);

    public string PathOf(string shard) => Path.Combine(Folder, shard + ".json");

    /// <summary>The record of a shard of some save; null if there is none. One that a loss of power cut short is none.</summary>
    public ShardRecord? Read(string shard, string fingerprint)
    {
        try
        {
            return File.Exists(PathOf(shard)) && ShardRecord.Read(shard, RegularFile.ReadText(PathOf(shard))) is { } record
                && record.Fingerprint == fingerprint ? record : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>Those of some shards that are as their records say, in the staging directory or in a folder; the others are null. Reads
    /// each of the shards once. What a record's checksum does not count may be given as one.</summary>
    public ShardRecord?[] Verify(IReadOnlyList<string> shards, string fingerprint, int workers, Action<long>? read, Action report,
        CancellationToken cancellation, string? folder = null, Func<ShardRecord, ulong>? notCounted = null)
    {
        var found = new ShardRecord?[shards.Count];
        var next = -1;
        folder ??= Path.Combine(staging, ModelSwap.ModelName);
        Workers.Run("verify", Math.Min(workers, shards.Count), (_, stop) =>
        {
            for (int i; (i = Interlocked.Increment(ref next)) < shards.Count;)
            {
                found[i] = Verify(Path.Combine(folder, shards[i]), Read(shards[i], fingerprint), notCounted, stop);
                read?.Invoke(found[i]?.Bytes ?? 0);
            }
        }, report, cancellation);
        return found;
    }

    private static ShardRecord? Verify(
        string path, ShardRecord? record, Func<ShardRecord, ulong>? notCounted, CancellationToken cancellation) =>
        record is not null && FileStatus.Of(path) is { Kind: FileKind.Regular } status && status.Length == record.Bytes
            && (Checksum.Of(path, cancellation) ^ (notCounted?.Invoke(record) ?? 0)) == record.Checksum ? record : null;
}
