namespace UnslothMerge.Saving;

/// <summary>Where a model is written until it is complete: a hidden directory beside the destination, which then takes its name in one
/// step. Where the destination is a mount point, or its parent may not be written, the directory is inside and its files are moved one by
/// one. It belongs to one live process; what a killed process left in it is found under the same name. Disposed without <see cref="Land"/>
/// or <see cref="Keep"/>, it leaves nothing behind.</summary>
internal sealed class StagingDirectory : IDisposable
{
    /// <summary>The folder by which a staging directory is known that several workers write to.</summary>
    public const string PlanName = "plan";

    private readonly Destination _destination;
    private readonly IDisk _disk;
    private readonly ModelSwap _swap;
    private readonly IReadOnlyList<string> _newParents;
    private FileStatus? _made;
    private readonly StagingLock _lock;
    private bool _landed;
    private bool _kept;
    private IReadOnlySet<string>? _keptFiles;

    private StagingDirectory(Destination destination, IDisk disk, string parent, bool takesParts)
    {
        _destination = destination;
        _disk = disk;
        Home = System.IO.Path.Combine(parent, destination.StagingName);
        Path = System.IO.Path.Combine(Home, ModelSwap.ModelName);
        if (new DirectoryInfo(Home).LinkTarget is not null)
        {
            throw new IOException($"'{Home}' is a link.");
        }

        _newParents = [.. disk.CreateTree(Home).Where(d => d != Home)];
        _lock = StagingLock.TryTake(Home) ?? throw new MergeException(
            MergeError.InvalidDestination, $"Another save to '{destination.Given}' is under way.", destination.Given,
            "Wait until it has ended, or choose another -Destination.");
        _swap = new ModelSwap(disk, Home, destination.Path, inside: parent == destination.Path);
        try
        {
            if (!takesParts && Directory.Exists(System.IO.Path.Combine(Home, PlanName)))
            {
                throw new MergeException(
                    MergeError.InvalidDestination, $"'{Home}' holds parts of a model that several workers save.", destination.Given,
                    "Complete-MergedModel finishes it; Save-MergedModel -Restart removes it.");
            }

            if (_swap.IsHalfDone)
            {
                _swap.Undo();
            }

            _swap.DeleteOld();
            destination.RequireReplaceable(underWay: true);
            MakeModel();
        }
        catch
        {
            _kept = Directory.Exists(Path) || Directory.Exists(System.IO.Path.Combine(Home, PlanName));
            Dispose();
            throw;
        }
    }

    /// <summary>The directory to write the model to.</summary>
    public string Path { get; }

    /// <summary>The hidden directory: that of the model, and what a later save needs to know.</summary>
    public string Home { get; }

    /// <summary>Makes a staging directory on the destination's file system, or takes over what a killed process left there. Moves that it
    /// left half done are undone. One that several workers write to is taken over only if that is said.</summary>
    public static StagingDirectory Create(Destination destination, IDisk disk, bool takesParts = false)
    {
        try
        {
            return Beside(destination, disk, parent => new StagingDirectory(destination, disk, parent, takesParts));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw destination.NotWritten(e);
        }
    }

    /// <summary>Does something in the directory that a staging directory belongs in.</summary>
    public static T Beside<T>(Destination destination, IDisk disk, Func<string, T> make)
    {
        var parent = System.IO.Path.GetDirectoryName(destination.Path);
        if (!destination.Exists || (parent is not null && !disk.IsMountPoint(destination.Path)))
        {
            try
            {
                return make(parent!);
            }
            catch (UnauthorizedAccessException) when (destination.Exists)
            {
                // The parent is not ours; the destination may be.
            }
        }

        return make(destination.Path);
    }

    /// <summary>True if no save has written to it.</summary>
    public bool IsEmpty => DiskExtensions.Entries(Path).Count == 0;

    /// <summary>Deletes everything of the model but some files.</summary>
    public void RemoveAllBut(IReadOnlySet<string> files)
    {
        foreach (var entry in DiskExtensions.Entries(Path).Where(e => !files.Contains(System.IO.Path.GetFileName(e))))
        {
            _disk.DeleteTree(entry);
        }
    }

    /// <summary>Deletes everything in it.</summary>
    public void Clear()
    {
        Empty();
        MakeModel();
    }

    /// <summary>Gives the complete model its final name. What was there before stays until then, and comes back if that fails.</summary>
    /// <param name="sync">True if the name must survive a loss of power before the previous model is deleted.</param>
    /// <exception cref="MergeException">Something has appeared at the destination that may not be replaced.</exception>
    public void Land(bool sync)
    {
        _destination.RequireReplaceable(underWay: true);
        RequireOwn();
        try
        {
            _swap.Do(sync);
        }
        catch
        {
            // If this fails, too, the next save does it.
            var kept = _kept;
            _kept = true;
            _swap.Undo();
            _kept = kept;
            throw;
        }

        (_landed, _kept) = (true, false);
    }

    /// <summary>Leaves the directory, with some files of the model, to a later save.</summary>
    public void Keep(IReadOnlySet<string> files) => (_kept, _keptFiles) = (true, files);

    /// <summary>Leaves everything to a later save, unless the model gets its name.</summary>
    public void KeepAll() => _kept = true;

    public void Dispose()
    {
        try
        {
            if (!_kept)
            {
                // Once the model has its name, this holds the previous one.
                Quietly(Empty);
            }
            else if (_keptFiles is not null)
            {
                Quietly(() => RemoveAllBut(_keptFiles));
            }
        }
        finally
        {
            _lock.Dispose();
        }

        foreach (var directory in _kept ? [] : _landed ? [Home] : _newParents.Prepend(Home))
        {
            Quietly(() => _disk.DeleteDirectory(directory));
        }
    }

    private void Empty()
    {
        // Without a fingerprint nothing that is left counts as finished.
        _disk.DeleteIfThere(System.IO.Path.Combine(Home, ShardJournal.FingerprintName));
        foreach (var entry in DiskExtensions.Entries(Home).Where(e => System.IO.Path.GetFileName(e) != StagingLock.Name))
        {
            _disk.DeleteTree(entry);
        }
    }

    private void MakeModel()
    {
        _disk.CreateTree(Path);
        _made = FileStatus.Of(Path);
    }

    // Another directory under the same name would get the model's.
    private void RequireOwn()
    {
        if (FileStatus.Of(Path) is not { } now || (now.Inode, now.Device) != (_made?.Inode, _made?.Device))
        {
            throw new IOException($"'{Path}' was moved or replaced while the model was written to it.");
        }
    }

    // Failing to tidy up must not hide why the save failed, nor make a failure of a save that succeeded.
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
}
