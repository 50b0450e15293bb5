using UnslothMerge.Execution;
using UnslothMerge.Files;
using UnslothMerge.IO;
using UnslothMerge.Planning;
using UnslothMerge.Saving;

namespace UnslothMerge.Hub.Publishing;

/// <summary>Merges a model and publishes it without room for it: each shard is sent and deleted while the next one is merged.</summary>
internal static class StreamedSave
{
    /// <summary>The most that shards take on the disk.</summary>
    public static long ScratchBytes(WritePlan plan) =>
        plan.Shards.Select(s => s.Layout.Length).OrderDescending().Take(ShardStream.MaxShards).Sum();

    /// <summary>Merges, sends and commits. The scratch is empty, and only small files are left in it. The function writes the one shard
    /// of a plan there, and gives the results of its tensors.</summary>
    public static (PublishResult Result, IReadOnlyList<SavedShard> Shards) Run(Publisher publisher, PublishPlan plan, WritePlan write,
        ModelExtras extras, string scratch, Func<WritePlan, CancellationToken, IReadOnlyList<TensorResult>> merge,
        Func<List<UploadFile>> others, IProgress<UploadProgress>? progress, CancellationToken cancellation)
    {
        var results = new List<(WriteShard Shard, long Bytes, IReadOnlyList<TensorResult> Tensors)>();
        using var stream = new ShardStream(publisher, plan, progress, cancellation);
        foreach (var shard in write.Shards)
        {
            stream.Add(stop =>
            {
                var path = Path.Combine(scratch, shard.Name);
                var tensors = merge(write.Only(shard), stop);
                results.Add((shard, new FileInfo(path).Length, tensors));
                return path;
            });
        }

        InputFiles.RequireUnchanged(write.Merge.InputFiles);
        extras.Write(scratch, SystemDisk.Instance);
        WriteIndex(write, results.Sum(r => r.Bytes), scratch);
        var result = stream.Complete(plan, others, "Upload merged model", progress, cancellation);
        return (result, [.. results.Select(r => new SavedShard(
            $"{result.Url.Replace("/commit/", "/resolve/", StringComparison.Ordinal)}/{r.Shard.Name}", r.Bytes,
            [.. r.Tensors.OrderBy(t => t.Tensor.Ordinal)]))]);
    }

    private static void WriteIndex(WritePlan plan, long bytes, string directory)
    {
        if (plan.Shards.Length > 1)
        {
            var map = plan.Shards.SelectMany(s => s.Layout.Names.Select(n => KeyValuePair.Create(n, s.Name)));
            File.WriteAllText(Path.Combine(directory, ShardIndex.NameFor(plan.Variant)),
                ShardIndex.Write(map, bytes - plan.Shards.Sum(s => (long)s.Layout.Header.Length),
                    plan.Tensors.Sum(t => t.Tensor.View.Count)));
        }
    }
}
