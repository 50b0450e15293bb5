using UnslothMerge.Execution;
using UnslothMerge.Hub.Fetching;

namespace UnslothMerge.Saving;

/// <summary>A file of weights that was written, by its final path.</summary>
internal sealed record SavedShard(string Path, long Bytes, ImmutableArray<TensorResult> Tensors)
{
    /// <summary>A finished shard at its path, with its tensors in the order of the model.</summary>
    public static SavedShard Of(FinishedShard shard, string path) =>
        new(path, shard.Bytes, [.. shard.Tensors])
        {
            Cloned = shard.Cloned, Obstacle = shard.Obstacle, Time = shard.Time,
        };

    /// <summary>The bytes that it shares with a file of the base.</summary>
    public long Cloned { get; init; }

    /// <summary>Why it shares none; null if it does, or an earlier save has written it.</summary>
    public string? Obstacle { get; init; }

    /// <summary>From its first piece to its last; null if an earlier save wrote it.</summary>
    public TimeSpan? Time { get; init; }
}

/// <summary>Saves a merged model: shards, index, config, the files carried over, and a card; all or nothing.</summary>
internal static class ModelSaver
{
    /// <summary>Writes a planned model, and takes over what an interrupted save of the same has finished. If it fails or is
    /// cancelled, the destination is as before.</summary>
    public static IReadOnlyList<SavedShard> Save(ModelExtras extras, Destination destination, RunOptions options,
        IProgress<MergeProgress>? progress, CancellationToken cancellation)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation, options.Ending);
        using var staging = StagingDirectory.Create(destination, options.Disk, takesParts: options.Restart);
        var save = new ResumableSave(extras, staging, options);
        return Guard(destination, options, save.Interrupted, () =>
        {
            cancellation = stop.Token;
            destination.NoteLost(options.Note);
            var finished = save.Begin(cancellation);
            var plan = options.Plan.Write;
            var hashed = options.Verify ? KnownHashes.Compare(plan.Merge.InputFiles, options.Note, stop.Token) : Task.CompletedTask;
            var taken = finished.Select(s => s.Name).ToHashSet();
            using var stream = HubStream.Open(
                PartSplit.FilesOf(plan, [.. plan.Shards.Where(s => !taken.Contains(s.Name))]), cancellation);
            var written = stream is not null && save.Finished is { } journal
                ? new VerifiedShards(stream, plan, journal).Add : save.Finished;
            var shards = WriteShards(staging.Path, options, finished, written, progress, cancellation, destination.RequireRoom);
            extras.Write(staging.Path, options.Disk);
            WriteIndex(plan, shards.Sum(s => s.Bytes), staging.Path, options.Disk);
            if (!options.Sync)
            {
                UnsyncedFiles.Note(options.Disk, staging.Path);
            }

            if (options.Sync)
            {
                options.Disk.FlushTree(staging.Path);
            }

            hashed.GetAwaiter().GetResult();
            stream?.Complete();
            cancellation.ThrowIfCancellationRequested();
            InputFiles.RequireUnchanged(plan.Merge.InputFiles);
            staging.Land(options.Sync);
            return shards.Select(s => SavedShard.Of(s, Path.Combine(destination.Path, s.Name))).ToList();
        });
    }

    /// <summary>Saves something. What the next try can go on from is kept and mentioned by errors that say nothing against it.</summary>
    public static T Guard<T>(Destination destination, RunOptions options, Func<MergeException, MergeException> interrupted, Func<T> save)
    {
        try
        {
            return save();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw interrupted(destination.NotWritten(e));
        }
        catch (MergeException e) when (e.Error == MergeError.DoesNotFit || e.InnerException is IOException or UnauthorizedAccessException)
        {
            throw interrupted(e);
        }
        catch (OperationCanceledException e)
        {
            var (isEnding, error) = (options.Ending.IsCancellationRequested, new MergeException(MergeError.Stopped,
                $"The save to '{destination.Given}' was stopped{(options.Ending.IsCancellationRequested ? ": the process was told to end"
                    : "")}.", destination.Given, "Run the same command again.", e));
            var stopped = interrupted(error);

            // Nobody may be left to show the error, and a user who stopped the command gets none.
            if (isEnding || stopped != error)
            {
                options.Note(new MergeWarning(MergeWarningId.InterruptedSave, $"{stopped.Message} {stopped.Advice}"));
            }

            if (isEnding)
            {
                throw stopped;
            }

            throw;
        }
    }

    /// <summary>Writes those of a plan's shards that are not finished, and nothing beside them. Each is handed on once it is. Gives all, in
    /// the order of the plan. The room that they need is told before it is taken.</summary>
    public static IReadOnlyList<FinishedShard> WriteShards(string directory, RunOptions options, IReadOnlyList<FinishedShard> finished,
        Action<FinishedShard>? written, IProgress<MergeProgress>? progress, CancellationToken cancellation,
        Action<long>? requireRoom = null, bool preallocated = true)
    {
        var shards = finished.ToDictionary(s => s.Name, StringComparer.Ordinal);
        var files = new List<ShardFile>();
        var reports = new ShardReports(progress, options.Finished);
        var since = 0;
        try
        {
            ShardFiles.Open([.. options.Plan.Write.Shards.Where(s => !shards.ContainsKey(s.Name))], directory, options.Disk,
                summed: written is not null, preallocated, requireRoom ?? (_ => { }), files);
            StreamingExecutor.Run(options.Plan, files, options, Finish, reports, cancellation);
            reports.Tell();
            return [.. options.Plan.Write.Shards.Select(s => shards[s.Name])];
        }
        finally
        {
            files.ForEach(f => f.Dispose());
        }

        void Finish(ShardFile file, IReadOnlyList<TensorResult> results, TimeSpan time)
        {
            var shard = shards[file.Shard.Name] = file.Finish(results) with { Time = time };
            file.Close();
            if (written is not null && options.Sync)
            {
                options.Disk.Flush(file.Path);
                options.Disk.FlushDirectory(directory);
            }

            written?.Invoke(shard);
            reports.Add(shard);
            since = Garbage.Release(since + results.Count);
        }
    }

    /// <summary>Writes the index of a model of several shards, which have so many bytes together.</summary>
    public static void WriteIndex(WritePlan plan, long shardBytes, string directory, IDisk disk)
    {
        if (plan.Shards.Length > 1)
        {
            var map = plan.Shards.SelectMany(s => s.Layout.Names.Select(n => KeyValuePair.Create(n, s.Name)));
            var bytes = shardBytes - plan.Shards.Sum(s => (long)s.Layout.Header.Length);
            disk.WriteFile(Path.Combine(directory, ShardIndex.NameFor(plan.Variant)),
                output => ShardIndex.Write(output, map, bytes, plan.Tensors.Sum(t => t.Tensor.View.Count)));
        }
    }
}
