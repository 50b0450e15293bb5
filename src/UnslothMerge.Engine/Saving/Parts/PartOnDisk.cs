using UnslothMerge.Execution;

namespace UnslothMerge.Saving.Parts;

/// <summary>A part whose shards stay in the shared staging directory, for <see cref="ModelCompletion"/>.</summary>
internal sealed class PartOnDisk(ModelExtras extras, Destination destination, string method, Part part, RunOptions options)
    : PartSaver(extras, destination, method, part, options)
{
    protected override string PathOf(PartStaging staging, string shard) => staging.PathOf(shard);

    protected override ShardRecord?[] Find(
        PartStaging staging, IReadOnlyList<string> shards, string fingerprint, CancellationToken cancellation) =>
        staging.Records.Verify(shards, fingerprint, Options.Plan.Workers, null, () => { }, cancellation);

    protected override void Write(PartStaging staging, ImmutableArray<WriteShard> shards, Action<FinishedShard> written,
        IProgress<MergeProgress>? progress, CancellationToken cancellation)
    {
        // The rest counts as written.
        var rest = Options.Plan.Write.Shards.Except(shards).Select(s => new FinishedShard(s.Name, s.Layout.Length, null, [])).ToList();

        // A worker that is killed leaves what it had written, and not the space of all of its part; and shares may have no such call.
        ModelSaver.WriteShards(
            staging.Work, Options, rest, written, progress, cancellation, Destination.RequireRoom, preallocated: false);
    }

    protected override void Publish(PartStaging staging, ShardRecord record) => staging.Publish(record);
}
