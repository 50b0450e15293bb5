using System.Buffers;
using System.Collections.Concurrent;
using UnslothMerge.Execution;
using UnslothMerge.Saving;
using UnslothMerge.Saving.Parts;

namespace UnslothMerge.Hub.Publishing;

/// <summary>A part whose shards are sent to a repository, where nobody sees them before <see cref="PartsCommit"/>. Beside the destination
/// lie only the plan and the records; the scratch holds two shards at most.</summary>
internal sealed class PartOnHub(Publisher publisher, PublishPlan plan, string scratch, IProgress<UploadProgress>? sending,
    ModelExtras extras, Destination destination, string method, Part part, RunOptions options)
    : PartSaver(extras, destination, method, part, options)
{
    private readonly ConcurrentDictionary<string, string> _hashes = new(StringComparer.Ordinal);
    private Publication? _publication;

    protected override string Repository => plan.Target.Repository;

    // The repository is made when there is something to send, and not before the shared plan is known to be this one.
    private Publication Publication(CancellationToken cancellation) => _publication ??= publisher.Begin(plan, cancellation);

    protected override string PathOf(PartStaging staging, string shard) => publisher.AddressOf(shard, plan.Target.Revision);

    // What the worker that commits cannot know is replaced here: the directories of this one.
    protected override void WriteFiles(string folder)
    {
        base.WriteFiles(folder);
        var merge = Options.Plan.Write.Merge;
        var warnings = new List<string>();
        var files = PublishedFiles.Open(folder, merge.Base.HubId, PublishedFiles.InputsOf(merge), warnings);
        foreach (var file in files.Where(f => f.IsInMemory))
        {
            Options.Disk.Replace(Path.Combine(folder, file.Name), output => output.Write(file.ReadAll()), sync: false);
        }

        warnings.ForEach(publisher.Warn);
    }

    protected override ShardRecord?[] Find(
        PartStaging staging, IReadOnlyList<string> shards, string fingerprint, CancellationToken cancellation)
    {
        ShardRecord?[] records = [.. shards.Select(s => staging.Records.Read(s, fingerprint))];
        var lost = PartsCommit.Lost(publisher, () => Publication(cancellation), plan, [.. records.OfType<ShardRecord>()], cancellation);
        return [.. records.Select(r => r is null || lost.Contains(r) ? null : r)];
    }

    protected override void Write(PartStaging staging, ImmutableArray<WriteShard> shards, Action<FinishedShard> written,
        IProgress<MergeProgress>? progress, CancellationToken cancellation)
    {
        var merged = new ConcurrentDictionary<string, FinishedShard>(StringComparer.Ordinal);
        var before = Options.Plan.Write.Bytes - shards.Sum(s => s.Layout.Length);
        var gate = new Lock();
        using var stream = new ShardStream(publisher, Publication(cancellation), plan, Note, sending, cancellation);
        foreach (var shard in shards)
        {
            stream.Add(stop =>
            {
                merged[shard.Name] = Merge(shard, progress is null ? null : new PartialProgress(progress, -before, 0), stop);
                return Path.Combine(scratch, shard.Name);
            });
            before += shard.Layout.Length;
        }

        stream.Wait();

        void Note(UploadFile sent)
        {
            _hashes[sent.Name] = sent.Sha256!;
            lock (gate)
            {
                written(merged[sent.Name]);
            }
        }
    }

    protected override void Publish(PartStaging staging, ShardRecord record) =>
        staging.Note(record with { Sha256 = _hashes[record.Name] });

    private FinishedShard Merge(WriteShard shard, IProgress<MergeProgress>? progress, CancellationToken cancellation)
    {
        try
        {
            return StreamedSave.Merge(shard, scratch, Options with { Sync = false }, progress, cancellation, summed: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw WriteFailure.At(scratch, e);
        }
    }
}
