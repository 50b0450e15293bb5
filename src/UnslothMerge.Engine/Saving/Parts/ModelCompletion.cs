using UnslothMerge.Files;
using UnslothMerge.Planning;

namespace UnslothMerge.Saving.Parts;

/// <summary>Makes a model of the parts that several workers have saved.</summary>
internal sealed class ModelCompletion
{
    private readonly Destination _destination;
    private readonly string _home;
    private readonly string _hash;

    private ModelCompletion(Destination destination, string home)
    {
        (_destination, _home) = (destination, home);
        Plan = PartsPlan.Read(Path.Combine(PartStaging.PlanOf(home), PartsPlan.FileName));
        _hash = SaveFingerprint.Read(RegularFile.ReadText(Path.Combine(PartStaging.PlanOf(home), PartsPlan.FingerprintName)))?.Hash ?? "";
    }

    /// <summary>What the parts are of.</summary>
    public PartsPlan Plan { get; }

    /// <summary>Finds the parts of the model at a destination.</summary>
    public static ModelCompletion Find(Destination destination)
    {
        var home = destination.Stagings.FirstOrDefault(s => Directory.Exists(PartStaging.PlanOf(s))) ?? throw new MergeException(
            MergeError.PathNotFound, $"There are no parts of a model for '{destination.Given}'.", destination.Given,
            "Save them with Save-MergedModel -Part, to the same -Destination.");
        return new ModelCompletion(destination, home);
    }

    /// <summary>Verifies every shard by its record, writes the other files, and gives the model its name. If that fails, all parts
    /// stay.</summary>
    public IReadOnlyList<ShardRecord> Complete(IDisk disk, bool sync, int workers, Action<long, long>? progress,
        CancellationToken cancellation)
    {
        try
        {
            using var staging = StagingDirectory.Create(_destination, disk, takesParts: true);
            staging.KeepAll();
            var shards = Verify(workers, progress, cancellation);
            staging.RemoveAllBut(shards.Select(s => s.Name).ToHashSet(StringComparer.Ordinal));
            var files = Path.Combine(PartStaging.PlanOf(_home), PartsPlan.FilesName);
            CarriedFiles.Copy(
                Directory.EnumerateFiles(files, "*", new EnumerationOptions { AttributesToSkip = 0, RecurseSubdirectories = true })
                    .ToDictionary(f => Path.GetRelativePath(files, f)), staging.Path, disk);
            Plan.WriteIndex(shards.Sum(s => s.Bytes), staging.Path, disk);
            if (sync)
            {
                disk.FlushTree(staging.Path);
            }

            cancellation.ThrowIfCancellationRequested();
            staging.Land(sync);
            return shards;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw _destination.NotWritten(e);
        }
    }

    private IReadOnlyList<ShardRecord> Verify(
        int workers, Action<long, long>? progress, CancellationToken cancellation)
    {
        var records = new ShardRecords(_home);
        var total = Plan.Shards.Sum(s => records.Read(s.Name, _hash)?.Bytes ?? 0);
        var done = 0L;
        var found = records.Verify([.. Plan.Shards.Select(s => s.Name)], _hash, workers, b => Interlocked.Add(ref done, b),
            () => progress?.Invoke(Interlocked.Read(ref done), total), cancellation);
        var missing = Plan.Shards.Zip(found).Where(s => s.Second is null).Select(s => s.First).ToList();
        if (missing.Count == 0)
        {
            return [.. found.Select(r => r!)];
        }

        var parts = missing.Select(s => s.Part).Distinct().ToList();
        throw new MergeException(
            MergeError.PartsMissing,
            $"{missing.Count} of {Amount.Text(Plan.Shards.Length, "shard")} are not there, or not as their records say: "
            + $"{string.Join(", ", missing.Take(3).Select(s => $"{s.Name} (part {s.Part}/{Plan.Parts})"))}"
            + $"{(missing.Count > 3 ? ", …" : "")}.",
            _destination.Given,
            $"Save {(parts.Count == 1 ? "part" : "the parts")} {string.Join(", ", parts.Select(p => $"{p}/{Plan.Parts}"))} again.")
        {
            Details = [.. missing.Select(s => $"{s.Name} (part {s.Part}/{Plan.Parts})")],
        };
    }
}
