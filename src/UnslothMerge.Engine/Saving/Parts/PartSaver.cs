using System.Collections.Concurrent;
using UnslothMerge.Execution;
using UnslothMerge.Files;
using UnslothMerge.Hub.Fetching;
using UnslothMerge.IO;
using UnslothMerge.Planning;

namespace UnslothMerge.Saving.Parts;

/// <summary>Saves one part of a model that several workers save together, beside its destination, for <see cref="ModelCompletion"/>.
/// Any part can be saved at any time, on any machine, again, and by several workers at once.</summary>
internal static class PartSaver
{
    /// <summary>Writes those shards of a part that are not there yet. Gives all of the part, where they lie now.</summary>
    public static IReadOnlyList<SavedShard> Save(ModelExtras extras, Destination destination, string method, Part part, RunOptions options,
        IProgress<MergeProgress>? progress, CancellationToken cancellation)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation, options.Ending);
        var plan = options.Plan.Write;
        var owned = PartSplit.ShardsOf(plan, part);
        var finished = new ConcurrentDictionary<string, FinishedShard>(StringComparer.Ordinal);
        return ModelSaver.Guard(destination, options, Interrupted, () =>
        {
            var record = JsonNode.Parse(extras.Written()[MergeRecord.FileName])!.AsObject();
            var fingerprint = SaveFingerprint.Shared(plan, record, options.Device?.Device.Name ?? "cpu", extras.Hashes());
            using var staging = PartStaging.Open(destination, options.Disk, options.Sync, fingerprint, options.Restart, WritePlan);
            if (!options.Restart)
            {
                Find(staging, fingerprint.Hash);
            }

            Write(staging, fingerprint.Hash);
            return owned.Select(s => SavedShard.Of(finished[s.Name], staging.PathOf(s.Name))).ToList();
        });

        void WritePlan(string folder)
        {
            options.Disk.WriteText(Path.Combine(folder, PartsPlan.FileName), PartsPlan.Of(plan, method, part.Count).ToJson());
            options.Disk.CreateDirectory(Path.Combine(folder, PartsPlan.FilesName));
            extras.Write(Path.Combine(folder, PartsPlan.FilesName), options.Disk);
        }

        void Find(PartStaging staging, string hash)
        {
            var found = staging.Records.Verify(
                [.. owned.Select(s => s.Name)], hash, options.Plan.Workers, null, () => { }, stop.Token);
            foreach (var shard in owned.Zip(found).Select(s => s.Second?.ToFinished(s.First)).OfType<FinishedShard>())
            {
                finished[shard.Name] = shard;
            }

            if (!finished.IsEmpty)
            {
                options.Note(new MergeWarning(MergeWarningId.InterruptedSave,
                    $"{Finished()} there already."));
            }
        }

        void Write(PartStaging staging, string hash)
        {
            var missing = owned.Where(s => !finished.ContainsKey(s.Name)).ToImmutableArray();
            if (missing.IsEmpty)
            {
                return;
            }

            var files = PartSplit.FilesOf(plan, missing);
            var hashed = options.Verify ? KnownHashes.Compare(files, options.Note, stop.Token) : Task.CompletedTask;
            using var stream = HubStream.Open(files, stop.Token);
            var verified = stream is null ? null : new VerifiedShards(stream, plan, Publish);

            // The rest counts as written.
            var rest = plan.Shards.Except(missing).Select(s => finished.GetValueOrDefault(s.Name)
                ?? new FinishedShard(s.Name, s.Layout.Length, null, [])).ToList();
            var ofPart = progress is null ? null
                : new PartialProgress(progress, plan.Bytes - missing.Sum(s => s.Layout.Length), missing.Sum(s => s.Layout.Length));

            // A worker that is killed leaves what it had written, and not the space of all of its part; and shares may have no such call.
            ModelSaver.WriteShards(
                staging.Work, options, rest, verified is null ? Publish : verified.Add, ofPart, stop.Token, destination.RequireRoom,
                preallocated: false);
            hashed.GetAwaiter().GetResult();
            stream?.Complete();
            verified?.Complete();

            void Publish(FinishedShard shard)
            {
                InputFiles.RequireUnchanged(files);

                // Who verifies it may have no base: the checksum is of all that a clone holds.
                var origin = shard.Cloned == 0 ? 0 : ShardJournal.OriginChecksum(owned.First(s => s.Name == shard.Name), stop.Token);
                staging.Publish(ShardRecord.Of(shard with { Checksum = shard.Checksum ^ origin }, hash));
                finished[shard.Name] = shard;
            }
        }

        MergeException Interrupted(MergeException error) => new(error.Error, error.Message, error.Target,
            $"{error.Advice} {Finished()} finished and kept: the same command goes on from there.", error.InnerException)
        {
            Details = error.Details,
        };

        string Finished() =>
            $"{finished.Count} of {Amount.Text(owned.Length, "shard")} of part {part} {(finished.Count == 1 ? "is" : "are")}";
    }
}
