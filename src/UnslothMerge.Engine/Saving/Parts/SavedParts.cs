namespace UnslothMerge.Saving.Parts;

/// <summary>What several workers have saved of a model: their plan, the records of the shards, the files beside the weights.</summary>
internal sealed class SavedParts
{
    private readonly string _folder;

    private SavedParts(string given, string home)
    {
        (Given, Home, _folder) = (given, home, PartStaging.PlanOf(home));
        Plan = PartsPlan.Read(Path.Combine(_folder, PartsPlan.FileName));
        Fingerprint = SaveFingerprint.Read(Path.Combine(_folder, PartsPlan.FingerprintName))?.Hash ?? "";
        Records = new ShardRecords(home);
    }

    /// <summary>The destination as the user gave it.</summary>
    public string Given { get; }

    /// <summary>The hidden directory that the workers share.</summary>
    public string Home { get; }

    /// <summary>What the parts are of.</summary>
    public PartsPlan Plan { get; }

    /// <summary>The hash of what all records must be of.</summary>
    public string Fingerprint { get; }

    /// <summary>The records of the shards that are finished.</summary>
    public ShardRecords Records { get; }

    /// <summary>The names of all shards.</summary>
    public IReadOnlyList<string> Names => [.. Plan.Shards.Select(s => s.Name)];

    /// <summary>The folder of the files beside the weights.</summary>
    public string FilesFolder => Path.Combine(_folder, PartsPlan.FilesName);

    /// <summary>Those files, by relative path.</summary>
    public IReadOnlyDictionary<string, string> Files => Directory
        .EnumerateFiles(FilesFolder, "*", new EnumerationOptions { AttributesToSkip = 0, RecurseSubdirectories = true })
        .ToDictionary(f => Path.GetRelativePath(FilesFolder, f));

    /// <summary>Finds the parts of the model at a destination.</summary>
    public static SavedParts Find(string path) =>
        Destination.Beside(path, []).Stagings.FirstOrDefault(s => Directory.Exists(PartStaging.PlanOf(s))) is { } home
            ? new SavedParts(path, home)
            : throw new MergeException(MergeError.PathNotFound, $"There are no parts of a model for '{path}'.", path,
                "Save them with Save-MergedModel -Part, to the same -Destination.");

    /// <summary>Does something that makes a model of the parts elsewhere, and then removes them.</summary>
    public T Finish<T>(IDisk disk, Func<T> make)
    {
        T made;
        using (StagingLock.TryTake(Home) ?? throw new MergeException(
            MergeError.InvalidDestination, $"The model at '{Given}' is being completed.", Given, "Wait until that has ended."))
        {
            made = make();
            Quietly(() => Clear(disk));
        }

        Quietly(() => disk.DeleteDirectory(Home));
        return made;
    }

    // Without the plan, which goes first and at once, the rest counts as nothing.
    private void Clear(IDisk disk)
    {
        disk.Move(_folder, Path.Combine(Home, "done"));
        foreach (var entry in DiskExtensions.Entries(Home).Where(e => Path.GetFileName(e) != StagingLock.Name))
        {
            disk.DeleteTree(entry);
        }
    }

    // Failing to tidy up must not make a failure of what succeeded.
    private static void Quietly(Action tidy)
    {
        try
        {
            tidy();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
        }
    }

    /// <summary>Refuses a model of which shards are missing, and says who owes them. A shard's trouble is told for all of them.</summary>
    public void RequireNone(IReadOnlyList<PartsShard> missing, string trouble)
    {
        if (missing.Count == 0)
        {
            return;
        }

        var parts = missing.Select(s => $"{s.Part}/{Plan.Parts}").Distinct().ToList();
        throw new MergeException(
            MergeError.PartsMissing,
            $"{missing.Count} of {Amount.Text(Plan.Shards.Length, "shard")} {(missing.Count == 1 ? "is" : "are")} {trouble}: "
            + $"{string.Join(", ", missing.Take(3).Select(s => $"{s.Name} (part {s.Part}/{Plan.Parts})"))}"
            + $"{(missing.Count > 3 ? ", …" : "")}.",
            Given,
            $"Save {(parts.Count == 1 ? "part" : "the parts")} {string.Join(", ", parts)} again.")
        {
            Details = [.. missing.Select(s => $"{s.Name} (part {s.Part}/{Plan.Parts})")],
        };
    }
}
