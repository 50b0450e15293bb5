using System.Collections.Concurrent;
using UnslothMerge.Execution;
using UnslothMerge.Hub.Fetching;

namespace UnslothMerge.Saving.Parts;

/// <summary>Saves one part of a model that several workers save together, and notes its shards beside the destination. Any part can be
/// saved at any time, on any machine, again, and by several workers at once.</summary>
internal abstract class PartSaver(ModelExtras extras, Destination destination, string method, Part part, RunOptions options)
{
    private readonly ImmutableArray<WriteShard> _owned = PartSplit.ShardsOf(options.Plan.Write, part);
    private readonly ConcurrentDictionary<string, FinishedShard> _finished = new(StringComparer.Ordinal);

    /// <summary>What is saved, and how.</summary>
    protected RunOptions Options => options;

    /// <summary>Beside which the parts are noted.</summary>
    protected Destination Destination => destination;

    /// <summary>The repository that shards are sent to; null if they stay on the disk.</summary>
    protected virtual string? Repository => null;

    /// <summary>Writes those shards of the part that are not there yet. Gives all of the part, where they are now.</summary>
    public IReadOnlyList<SavedShard> Save(IProgress<MergeProgress>? progress, CancellationToken cancellation)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation, options.Ending);
        var plan = options.Plan.Write;
        return ModelSaver.Guard(destination, options, Interrupted, () =>
        {
            var record = JsonFile.OfText(extras.Written()[MergeRecord.FileName]);
            var fingerprint = SaveFingerprint.Shared(
                plan, record, options.Device?.Device.Name ?? "cpu", extras.Hashes(), Repository);
            using var staging = PartStaging.Open(destination, options.Disk, options.Sync, fingerprint, options.Restart, WritePlan);
            if (!options.Restart)
            {
                Find(staging, fingerprint.Hash, stop.Token);
            }

            Write(staging, fingerprint.Hash, progress, stop.Token);
            return _owned.Select(s => SavedShard.Of(_finished[s.Name], PathOf(staging, s.Name))).ToList();
        });
    }

    /// <summary>Where a finished shard is.</summary>
    protected abstract string PathOf(PartStaging staging, string shard);

    /// <summary>The records of some shards that are there as their records say; null for the others.</summary>
    protected abstract ShardRecord?[] Find(
        PartStaging staging, IReadOnlyList<string> shards, string fingerprint, CancellationToken cancellation);

    /// <summary>Writes shards, and hands each on once it is where it can be noted.</summary>
    protected abstract void Write(PartStaging staging, ImmutableArray<WriteShard> shards, Action<FinishedShard> written,
        IProgress<MergeProgress>? progress, CancellationToken cancellation);

    /// <summary>Notes a shard.</summary>
    protected abstract void Publish(PartStaging staging, ShardRecord record);

    /// <summary>Writes the files beside the weights into a folder.</summary>
    protected virtual void WriteFiles(string folder) => extras.Write(folder, options.Disk);

    private void WritePlan(string folder)
    {
        var plan = PartsPlan.Of(options.Plan.Write, method, part.Count) with { Repository = Repository };
        options.Disk.WriteText(Path.Combine(folder, PartsPlan.FileName), plan.ToJson());
        options.Disk.CreateDirectory(Path.Combine(folder, PartsPlan.FilesName));
        WriteFiles(Path.Combine(folder, PartsPlan.FilesName));
    }

    private void Find(PartStaging staging, string fingerprint, CancellationToken cancellation)
    {
        var found = Find(staging, [.. _owned.Select(s => s.Name)], fingerprint, cancellation);
        foreach (var shard in _owned.Zip(found).Select(s => s.Second?.ToFinished(s.First)).OfType<FinishedShard>())
        {
            _finished[shard.Name] = shard;
        }

        if (!_finished.IsEmpty)
        {
            options.Note(new MergeWarning(MergeWarningId.InterruptedSave, $"{Finished()} there already."));
        }
    }

    private void Write(PartStaging staging, string fingerprint, IProgress<MergeProgress>? progress, CancellationToken cancellation)
    {
        var plan = options.Plan.Write;
        var missing = _owned.Where(s => !_finished.ContainsKey(s.Name)).ToImmutableArray();
        if (missing.IsEmpty)
        {
            return;
        }

        var files = PartSplit.FilesOf(plan, missing);
        var hashed = options.Verify ? KnownHashes.Compare(files, options.Note, cancellation) : Task.CompletedTask;
        using var stream = HubStream.Open(files, cancellation);
        var verified = stream is null ? null : new VerifiedShards(stream, plan, Note);
        var bytes = missing.Sum(s => s.Layout.Length);
        Write(staging, missing, verified is null ? Note : verified.Add,
            progress is null ? null : new PartialProgress(progress, plan.Bytes - bytes, bytes), cancellation);
        hashed.GetAwaiter().GetResult();
        stream?.Complete();
        verified?.Complete();

        void Note(FinishedShard shard)
        {
            InputFiles.RequireUnchanged(files);

            // Who verifies it may have no base: the checksum is of all that a clone holds.
            var origin = shard.Cloned == 0 ? 0 : ShardJournal.OriginChecksum(_owned.First(s => s.Name == shard.Name), cancellation);
            Publish(staging, ShardRecord.Of(shard with { Checksum = shard.Checksum ^ origin }, fingerprint));
            _finished[shard.Name] = shard;
        }
    }

    private MergeException Interrupted(MergeException error) => new(error.Error, error.Message, error.Target,
        $"{error.Advice} {Finished()} finished and kept: the same command goes on from there.", error.InnerException)
    {
        Details = error.Details,
    };

    private string Finished() =>
        $"{_finished.Count} of {Amount.Text(_owned.Length, "shard")} of part {part} {(_finished.Count == 1 ? "is" : "are")}";
}
