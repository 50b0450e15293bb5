using UnslothMerge.Files;
using UnslothMerge.Planning;

namespace UnslothMerge.Saving.Parts;

/// <summary>Makes a model of the parts that several workers have saved.</summary>
internal sealed class ModelCompletion
{
    private readonly string _given;
    private readonly bool _force;
    private readonly string _home;
    private readonly string _hash;
    private readonly ShardRecords _records;

    private ModelCompletion(string given, bool force, Destination destination, string home)
    {
        (_given, _force, Path, _home) = (given, force, destination.Path, home);
        var plan = PartStaging.PlanOf(home);
        Plan = PartsPlan.Read(System.IO.Path.Combine(plan, PartsPlan.FileName));
        _hash = SaveFingerprint.Read(RegularFile.ReadText(System.IO.Path.Combine(plan, PartsPlan.FingerprintName)))?.Hash ?? "";
        _records = new ShardRecords(home);
    }

    /// <summary>What the parts are of.</summary>
    public PartsPlan Plan { get; }

    /// <summary>The real path of the model.</summary>
    public string Path { get; }

    private IReadOnlyList<string> Names => [.. Plan.Shards.Select(s => s.Name)];

    // By relative path.
    private Dictionary<string, string> Files
    {
        get
        {
            var folder = System.IO.Path.Combine(PartStaging.PlanOf(_home), PartsPlan.FilesName);
            return Directory.EnumerateFiles(folder, "*", new EnumerationOptions { AttributesToSkip = 0, RecurseSubdirectories = true })
                .ToDictionary(f => System.IO.Path.GetRelativePath(folder, f));
        }
    }

    /// <summary>Finds the parts of the model at a destination.</summary>
    public static ModelCompletion Find(string path, bool force)
    {
        var destination = Destination.Check(path, [], force: true);
        var home = destination.Stagings.FirstOrDefault(s => Directory.Exists(PartStaging.PlanOf(s))) ?? throw new MergeException(
            MergeError.PathNotFound, $"There are no parts of a model for '{path}'.", path,
            "Save them with Save-MergedModel -Part, to the same -Destination.");
        return new ModelCompletion(path, force, destination, home);
    }

    /// <summary>Verifies every shard by its record, writes the other files, and gives the model its name. If that fails, all parts stay.
    /// Where one that was killed had done all of it, only the parts' directory is left to be deleted.</summary>
    public IReadOnlyList<ShardRecord> Complete(IDisk disk, bool sync, int workers, Action<long, long>? progress,
        CancellationToken cancellation)
    {
        var destination = Destination.Check(_given, [], force: true);
        try
        {
            if (FindComplete(workers, progress, cancellation) is { } complete)
            {
                using var there = StagingDirectory.Create(destination, disk, takesParts: true);
                return complete;
            }

            destination = Destination.Check(_given, [], _force);
            using var staging = StagingDirectory.Create(destination, disk, takesParts: true);
            staging.KeepAll();
            var shards = RequireAll(Verify(null, workers, progress, cancellation));
            staging.RemoveAllBut(Names.ToHashSet(StringComparer.Ordinal));
            CarriedFiles.Copy(Files, staging.Path, disk);
            if (Plan.Index(shards.Sum(s => s.Bytes)) is var (name, index))
            {
                disk.WriteText(System.IO.Path.Combine(staging.Path, name), index);
            }

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
            throw destination.NotWritten(e);
        }
    }

    // Null unless exactly this model is at the destination. Moves that are half done are undone first.
    private List<ShardRecord>? FindComplete(int workers, Action<long, long>? progress, CancellationToken cancellation)
    {
        if (File.Exists(System.IO.Path.Combine(_home, ModelSwap.NoteName))
            || !Files.All(f => HasBytes(f.Key, RegularFile.ReadAllBytes(f.Value))))
        {
            return null;
        }

        var found = Verify(Path, workers, progress, cancellation);
        var shards = found.OfType<ShardRecord>().ToList();
        var index = Plan.Index(shards.Sum(s => s.Bytes));
        return shards.Count == found.Length && (index is not var (name, text) || HasBytes(name, Encoding.UTF8.GetBytes(text)))
            ? shards : null;
    }

    private bool HasBytes(string name, byte[] bytes) => System.IO.Path.Combine(Path, name) is var file && File.Exists(file)
        && RegularFile.ReadAllBytes(file).AsSpan().SequenceEqual(bytes);

    private ShardRecord?[] Verify(string? folder, int workers, Action<long, long>? progress, CancellationToken cancellation)
    {
        var total = Names.Sum(n => _records.Read(n, _hash)?.Bytes ?? 0);
        var done = 0L;
        return _records.Verify(Names, _hash, workers, b => Interlocked.Add(ref done, b),
            () => progress?.Invoke(Interlocked.Read(ref done), total), cancellation, folder);
    }

    private IReadOnlyList<ShardRecord> RequireAll(ShardRecord?[] found)
    {
        var missing = Plan.Shards.Zip(found).Where(s => s.Second is null).Select(s => s.First).ToList();
        if (missing.Count == 0)
        {
            return [.. found.OfType<ShardRecord>()];
        }

        var parts = missing.Select(s => $"{s.Part}/{Plan.Parts}").Distinct().ToList();
        throw new MergeException(
            MergeError.PartsMissing,
            $"{missing.Count} of {Amount.Text(Plan.Shards.Length, "shard")} {(missing.Count == 1 ? "is" : "are")} not there, or not as the "
            + $"records say: {string.Join(", ", missing.Take(3).Select(s => $"{s.Name} (part {s.Part}/{Plan.Parts})"))}"
            + $"{(missing.Count > 3 ? ", …" : "")}.",
            _given,
            $"Save {(parts.Count == 1 ? "part" : "the parts")} {string.Join(", ", parts)} again.")
        {
            Details = [.. missing.Select(s => $"{s.Name} (part {s.Part}/{Plan.Parts})")],
        };
    }
}
