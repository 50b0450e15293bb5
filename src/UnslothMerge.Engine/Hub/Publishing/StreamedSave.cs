using UnslothMerge.Execution;
using UnslothMerge.Hub.Fetching;
using UnslothMerge.Saving;

namespace UnslothMerge.Hub.Publishing;

/// <summary>Merges a model and publishes it without room for it: each shard is sent and deleted while the next one is merged.</summary>
internal static class StreamedSave
{
    /// <summary>The most that shards take on the disk.</summary>
    public static long ScratchBytes(IEnumerable<WriteShard> shards) =>
        shards.Select(s => s.Layout.Length).OrderDescending().Take(ShardStream.MaxShards).Sum();

    /// <summary>Merges, sends and commits. The scratch is empty, and only small files are left in it.</summary>
    public static (PublishResult Result, IReadOnlyList<SavedShard> Shards) Run(Publisher publisher, PublishPlan plan, WritePlan write,
        ModelExtras extras, string scratch, Func<WriteShard, CancellationToken, FinishedShard> merge, Func<List<UploadFile>> others,
        IProgress<UploadProgress>? progress, CancellationToken cancellation)
    {
        var results = new List<FinishedShard>();
        using var inputs = HubStream.Open(write.Merge.InputFiles, cancellation);
        var publication = publisher.Begin(plan, cancellation);
        using var stream = new ShardStream(publisher, publication, plan, null, progress, cancellation);
        foreach (var shard in write.Shards)
        {
            stream.Add(stop =>
            {
                results.Add(merge(shard, stop));
                return Path.Combine(scratch, shard.Name);
            });
        }

        // What was sent is seen by nobody before the commit.
        inputs?.Complete();
        InputFiles.RequireUnchanged(write.Merge.InputFiles);
        extras.Write(scratch, SystemDisk.Instance);
        ModelSaver.WriteIndex(write, results.Sum(r => r.Bytes), scratch, SystemDisk.Instance);
        foreach (var (file, mode) in stream.Wait())
        {
            publication.Add(file, isLarge: true, mode.Oid);
        }

        var result = publisher.Finish(publication, plan, others(), Publisher.ModelSummary, progress, cancellation);
        return (result, [.. results.Select(r => SavedShard.Of(
            r, $"{result.Url.Replace("/commit/", "/resolve/", StringComparison.Ordinal)}/{r.Name}"))]);
    }

    /// <summary>Writes one shard of a plan into the scratch, perhaps with a checksum: for the others, it counts as if they were
    /// finished.</summary>
    public static FinishedShard Merge(WriteShard shard, string scratch, RunOptions options, IProgress<MergeProgress>? progress,
        CancellationToken cancellation, bool summed = false)
    {
        var rest = options.Plan.Write.Shards.Where(s => s.Name != shard.Name)
            .Select(s => new FinishedShard(s.Name, s.Layout.Length, null, [])).ToList();
        var ofShard = progress is null ? null : new PartialProgress(progress, rest.Sum(s => s.Bytes), shard.Layout.Length);
        return ModelSaver.WriteShards(scratch, options, rest, summed ? _ => { } : null, ofShard, cancellation)
            .First(s => s.Name == shard.Name);
    }
}
