using UnslothMerge.Execution;

namespace UnslothMerge.Saving;

/// <summary>The shards of a staging directory that are finished: the fingerprint of the save, and beside it one small file for each shard
/// (length, checksum of what was written, the fingerprint again, its tensors), written once the shard is on the disk. A later save with the
/// same fingerprint takes over every shard that is as its record says.</summary>
internal sealed class ShardJournal(IDisk disk, string staging, Lazy<SaveFingerprint> fingerprint, bool sync)
{
    public const string FingerprintName = "fingerprint.json";

    private readonly ShardRecords _records = new(staging);

    /// <summary>The fingerprint that a staging directory's journal was begun with; null if there is none that can be read.</summary>
    public static SaveFingerprint? FingerprintOf(string staging) => SaveFingerprint.Read(Path.Combine(staging, FingerprintName));

    /// <summary>Notes a shard that is complete, and on the disk.</summary>
    public void Add(FinishedShard shard)
    {
        if (!Directory.Exists(_records.Folder))
        {
            disk.ReplaceText(Path.Combine(staging, FingerprintName), fingerprint.Value.ToJson(), sync);
            disk.CreateTree(_records.Folder);
        }

        disk.Replace(_records.PathOf(shard.Name), ShardRecord.Of(shard, fingerprint.Value.Hash).Write, sync);
    }

    /// <summary>Finds the plan's shards that are finished, in its order, and reads each of them once.</summary>
    public IReadOnlyList<FinishedShard> Find(WritePlan plan, int workers, CancellationToken cancellation)
    {
        var shards = plan.Shards.ToDictionary(s => s.Name, StringComparer.Ordinal);
        var found = _records.Verify(
            [.. plan.Shards.Select(s => s.Name)], fingerprint.Value.Hash, workers, null, () => { }, cancellation, notCounted: NotCounted);
        return [.. plan.Shards.Zip(found).Select(s => s.Second?.ToFinished(s.First)).OfType<FinishedShard>()];

        // The checksum of a clone is that of what was written into it: what it has of the base is read there.
        ulong NotCounted(ShardRecord record) => record.Cloned == 0 ? 0 : OriginChecksum(shards[record.Name], cancellation);
    }

    /// <summary>That of what a shard has in common with its origin.</summary>
    public static ulong OriginChecksum(WriteShard shard, CancellationToken cancellation) =>
        shard.Origin is null ? 0 : Checksum.Of(shard.Origin.Path, shard.OriginRanges, cancellation);
}
