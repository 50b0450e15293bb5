namespace UnslothMerge.Saving.Parts;

/// <summary>The staging directory of a model that several workers save, perhaps on several machines. It belongs to none of them and has no
/// lock: each worker writes in a folder of its own, and what is complete gets its final name in one step. What two workers give the same
/// name has the same bytes.</summary>
internal sealed class PartStaging : IDisposable
{
    private const string WorkName = "work";

    private static readonly TimeSpan LockPatience = TimeSpan.FromSeconds(10);

    private readonly IDisk _disk;
    private readonly bool _sync;
    private readonly Destination _destination;
    private readonly ProcessFolder _folder;
    private string _hash = "";

    private PartStaging(Destination destination, IDisk disk, bool sync, string parent)
    {
        (_destination, _disk, _sync) = (destination, disk, sync);
        Home = Path.Combine(parent, destination.StagingName);
        if (new DirectoryInfo(Home).LinkTarget is not null)
        {
            throw new IOException($"'{Home}' is a link.");
        }

        Records = new ShardRecords(Home);
        // Locks tell of processes of this machine, on any file system.
        var own = $"{Environment.MachineName}-";
        _folder = ProcessFolder.Open(disk, Path.Combine(Home, WorkName, $"{own}{Guid.NewGuid():N}"), own + "*");
    }

    /// <summary>The hidden directory.</summary>
    public string Home { get; }

    /// <summary>The folder of this worker.</summary>
    public string Work => _folder.Path;

    /// <summary>The records of all finished shards.</summary>
    public ShardRecords Records { get; }

    private string Plan => PlanOf(Home);

    private string Model => Path.Combine(Home, ModelSwap.ModelName);

    /// <summary>The folder of a staging directory's plan.</summary>
    public static string PlanOf(string home) => Path.Combine(home, StagingDirectory.PlanName);

    /// <summary>Opens the directory for a worker of a save. The first one writes the plan; who would save something else is refused, or
    /// removes what is there if it is to begin anew.</summary>
    public static PartStaging Open(Destination destination, IDisk disk, bool sync, SaveFingerprint fingerprint, bool restart,
        Action<string> writePlan)
    {
        var staging = StagingDirectory.Beside(destination, disk, parent => new PartStaging(destination, disk, sync, parent));
        try
        {
            staging.Join(fingerprint, restart, writePlan);
            return staging;
        }
        catch
        {
            staging.Dispose();
            throw;
        }
    }

    /// <summary>Gives a shard of this worker's folder its name, and notes it.</summary>
    public void Publish(ShardRecord record)
    {
        _disk.Move(Path.Combine(Work, record.Name), Path.Combine(Model, record.Name));
        Flush(Model);
        Note(record);
    }

    /// <summary>Notes a shard that is where it belongs.</summary>
    public void Note(ShardRecord record) => _disk.Replace(
        Records.PathOf(record.Name), record.Write, _sync, temporary: Path.Combine(Work, record.Name + ".json"));

    /// <summary>Where a finished shard lies.</summary>
    public string PathOf(string shard) => Path.Combine(Model, shard);

    public void Dispose() => _folder.Dispose();

    private void Join(SaveFingerprint fingerprint, bool restart, Action<string> writePlan)
    {
        _hash = fingerprint.Hash;
        if (restart && Obstacle(fingerprint) is not null)
        {
            RemoveOthers(fingerprint);
        }

        if (Obstacle(fingerprint) is { } obstacle)
        {
            throw obstacle;
        }

        if (!HasPlan)
        {
            WritePlan(fingerprint, writePlan);
            if (Obstacle(fingerprint) is { } other)
            {
                throw other;
            }
        }

        _disk.CreateTree(Model);
        _disk.CreateTree(Records.Folder);
        Flush(Home);
    }

    // Whoever is the first to rename a folder has written the plan; for the others the name is taken by a folder that is not empty.
    private void WritePlan(SaveFingerprint fingerprint, Action<string> writePlan)
    {
        var own = Path.Combine(Work, StagingDirectory.PlanName);
        _disk.CreateTree(own);
        writePlan(own);
        _disk.WriteText(Path.Combine(own, PartsPlan.FingerprintName), fingerprint.ToJson());
        if (_sync)
        {
            _disk.FlushTree(own);
        }

        try
        {
            _disk.Move(own, Plan);
            Flush(Home);
        }
        catch (IOException) when (HasPlan)
        {
            // Another worker was first.
        }
    }

    // Why this worker may not write here; null if it may.
    private MergeException? Obstacle(SaveFingerprint fingerprint)
    {
        if (File.Exists(Path.Combine(Home, ModelSwap.NoteName)))
        {
            return new MergeException(MergeError.InvalidDestination, $"The model at '{_destination.Given}' is being completed.",
                _destination.Given, "Run Complete-MergedModel again if it was interrupted.");
        }

        // In this order: another worker may be writing the plan, and then its first shard.
        var isOfOneMachine = IsOfOneMachine;
        if (!HasPlan)
        {
            return isOfOneMachine ? new MergeException(
                MergeError.InvalidDestination, $"'{Home}' belongs to a save without -Part that is under way, or was interrupted.",
                _destination.Given, "Finish it with the same command; -Restart removes what an interrupted one left.") : null;
        }

        var there = SaveFingerprint.Read(Path.Combine(Plan, PartsPlan.FingerprintName));
        if (there?.Hash == _hash)
        {
            return null;
        }

        var differences = there is null ? ["its fingerprint, which is damaged"] : fingerprint.Described(there).ToList();
        return new MergeException(
            MergeError.PartsDiffer,
            $"The parts at '{_destination.Given}' are of another model than this one would be: they differ in "
            + $"{string.Join(", ", differences.Take(5))}{(differences.Count > 5 ? ", …" : "")}.",
            _destination.Given,
            "Give every worker the same inputs, options and version of UnslothMerge. -Restart removes the parts that are there.")
        {
            Details = differences,
        };
    }

    // Listing asks the server of a share, where looking for a name may get an answer from before.
    private bool HasPlan => Directory.EnumerateDirectories(Home, StagingDirectory.PlanName).Any();

    private bool IsOfOneMachine => File.Exists(Path.Combine(Home, ShardJournal.FingerprintName))
        || File.Exists(Path.Combine(Home, StagingLock.Name))
        || (Directory.Exists(Model) && Directory.EnumerateFileSystemEntries(Model).Any());

    // What is there is put aside by renames, under the lock of those who must be alone here; deleting it may take long.
    private void RemoveOthers(SaveFingerprint fingerprint)
    {
        using var alone = Patiently(() => StagingLock.TryTake(Home)) ?? throw new MergeException(
            MergeError.InvalidDestination, $"Another save to '{_destination.Given}' is under way.", _destination.Given,
            "Wait until it has ended, or choose another -Destination.");
        if (HasPlan && Obstacle(fingerprint) is null)
        {
            return;
        }

        var aside = Path.Combine(Work, "removed");
        _disk.CreateTree(aside);
        foreach (var entry in DiskExtensions.Entries(Home).Where(e => Path.GetFileName(e) is not (WorkName or StagingLock.Name))
            .OrderByDescending(e => e == Plan))
        {
            _disk.Move(entry, Path.Combine(aside, Path.GetFileName(entry)));
        }

        Flush(Home);
        _disk.DeleteTree(aside);
    }

    private static StagingLock? Patiently(Func<StagingLock?> take)
    {
        var clock = Stopwatch.StartNew();
        StagingLock? taken;
        while ((taken = take()) is null && clock.Elapsed < LockPatience)
        {
            Thread.Sleep(100);
        }

        return taken;
    }

    private void Flush(string directory)
    {
        if (_sync)
        {
            _disk.FlushDirectory(directory);
        }
    }
}
