using UnslothMerge.Devices;
using UnslothMerge.Execution;
using UnslothMerge.Files;
using UnslothMerge.Hub.Fetching;
using UnslothMerge.IO;
using UnslothMerge.Planning;

namespace UnslothMerge.Saving;

/// <summary>What a save writes, and whether everything is flushed to the disk before the model gets its final name.</summary>
internal sealed record RunOptions(ExecutionPlan Plan, bool Sync)
{
    /// <summary>A device that takes some of the tensors; null if the cores do all the work.</summary>
    public DeviceRun? Device { get; init; }
}

/// <summary>A file of weights that was written, by its final path.</summary>
internal sealed record SavedShard(string Path, long Bytes, ImmutableArray<TensorResult> Tensors);

/// <summary>Saves a merged model: shards, index, config, the files carried over, and a card; all or nothing.</summary>
internal static class ModelSaver
{
    /// <summary>Writes a planned model. If it fails or is cancelled, the destination is as before.</summary>
    public static IReadOnlyList<SavedShard> Save(ModelExtras extras, Destination destination, RunOptions options,
        IProgress<MergeProgress>? progress, CancellationToken cancellation)
    {
        var plan = options.Plan.Write;
        destination.RequireRoom(plan.Bytes + DeltaSurvival.BytesFor(plan));
        using var staging = StagingDirectory.Create(destination);
        try
        {
            using var stream = HubStream.Open(plan.Merge.InputFiles, cancellation);
            var results = WriteShards(staging.Path, options, progress, cancellation);
            extras.Write(staging.Path);
            WriteIndex(plan, results, staging.Path);
            var survival = DeltaSurvival.Measure(plan, staging.Path, options.Plan.Workers, cancellation);
            if (options.Sync)
            {
                Durable.FlushTree(staging.Path);
            }

            stream?.Complete();
            cancellation.ThrowIfCancellationRequested();
            InputFiles.RequireUnchanged(plan.Merge.InputFiles);
            staging.Land(options.Sync);

            var byName = results.ToLookup(r => r.Tensor.Name, r =>
                survival.TryGetValue(r.Tensor.Name, out var sums) ? r with { Survival = sums } : r);
            return [.. plan.Shards.Select(s => new SavedShard(
                Path.Combine(destination.Path, s.Name),
                s.Layout.Length,
                [.. s.Tensors.OrderBy(t => t.Tensor.Ordinal).SelectMany(t => byName[t.Tensor.Name])]))];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw destination.NotWritten(e);
        }
    }

    /// <summary>Writes a plan's shards, and nothing beside them.</summary>
    public static IReadOnlyList<TensorResult> WriteShards(string directory, RunOptions options, IProgress<MergeProgress>? progress,
        CancellationToken cancellation)
    {
        var plan = options.Plan.Write;
        var files = new List<SafeFileHandle>();
        var inMemory = DiskSpace.IsMemory(directory);
        try
        {
            foreach (var shard in plan.Shards)
            {
                // Preallocated: a full disk shows before the work, and writes need not look for space. In memory that would be the work
                // itself, on one thread.
                files.Add(File.OpenHandle(Path.Combine(directory, shard.Name), FileMode.CreateNew, FileAccess.Write, FileShare.Read,
                    FileOptions.None, inMemory ? 0 : shard.Layout.FixedLength));
                RandomAccess.SetLength(files[^1], shard.Layout.FixedLength);
                RandomAccess.Write(files[^1], shard.Layout.Header, 0);
            }

            var results = StreamingExecutor.Run(options.Plan, files, options.Device, options.Sync, progress, cancellation);
            Complete(plan, files, results);
            return results;
        }
        finally
        {
            files.ForEach(f => f.Dispose());
        }
    }

    // What depends on the data comes last: the tail of each shard, then the header that describes it.
    private static void Complete(WritePlan plan, List<SafeFileHandle> files, IReadOnlyList<TensorResult> results)
    {
        var byName = results.SelectMany(r => r.Written.Sink.Deferred.Zip(r.Deferred))
            .ToDictionary(d => d.First.Name, d => d.Second, StringComparer.Ordinal);
        foreach (var (shard, file) in plan.Shards.Zip(files).Where(s => s.First.Layout.IsDeferred))
        {
            var (header, tail) = shard.Layout.Complete(byName);
            RandomAccess.Write(file, tail, shard.Layout.FixedLength);
            RandomAccess.Write(file, header, 0);
        }
    }

    private static void WriteIndex(WritePlan plan, IReadOnlyList<TensorResult> results, string directory)
    {
        if (plan.Shards.Length > 1)
        {
            var map = plan.Shards.SelectMany(s => s.Layout.Names.Select(n => KeyValuePair.Create(n, s.Name)));
            var bytes = plan.Tensors.Sum(t => t.Sink.Outputs.Sum(o => o.Bytes)) + results.Sum(r => r.Deferred.Sum(d => (long)d.Length));
            File.WriteAllText(Path.Combine(directory, ShardIndex.NameFor(plan.Variant)),
                ShardIndex.Write(map, bytes, plan.Tensors.Sum(t => t.Tensor.View.Count)));
        }
    }
}
