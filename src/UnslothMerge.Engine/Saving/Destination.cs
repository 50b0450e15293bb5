namespace UnslothMerge.Saving;

/// <summary>The directory that a model is saved to, checked before anything is written.</summary>
internal sealed class Destination
{
    private readonly bool _force;
    private readonly bool _isAdapter;
    private readonly string[] _inputs;

    private Destination(string given, bool force, bool isAdapter, IEnumerable<string> inputs)
    {
        Given = given;
        Path = RealPath.Of(given);
        _force = force;
        _isAdapter = isAdapter;
        _inputs = [.. inputs];
    }

    /// <summary>The path as the user gave it.</summary>
    public string Given { get; }

    /// <summary>The real path.</summary>
    public string Path { get; }

    /// <summary>True if a model is there that will be replaced.</summary>
    public bool Exists => Directory.Exists(Path);

    /// <summary>The name of the hidden directory that the model is written to, beside or inside the destination.</summary>
    public string StagingName => $".{System.IO.Path.GetFileName(Path)}.unslothmerge";

    /// <summary>The directory that a file of the model lies in which is to be replaced: a killed save may have moved it.</summary>
    public string DirectoryOf(string file) =>
        HalfReplaced is { } staging && System.IO.Path.Combine(staging, ModelSwap.OldName) is var old
            && File.Exists(System.IO.Path.Combine(old, file)) ? old : Path;

    /// <summary>Where that directory may be.</summary>
    public IEnumerable<string> Stagings => new[] { System.IO.Path.GetDirectoryName(Path), Path }.OfType<string>()
        .Select(p => System.IO.Path.Combine(p, StagingName));

    private string? HalfReplaced => Stagings.FirstOrDefault(s => File.Exists(System.IO.Path.Combine(s, ModelSwap.NoteName)));

    /// <summary>Checks a destination against the directories that the merge reads, which are never written to. With
    /// <paramref name="force"/> an existing model (or adapter, if one is saved) may be replaced.</summary>
    public static Destination Check(
        string path, IEnumerable<(string Role, string Path)> inputs, bool force, bool isAdapter = false)
    {
        var destination = Beside(path, inputs, force, isAdapter);

        // What is there while a model was half replaced says nothing: the next save puts it right first.
        if (destination.HalfReplaced is null)
        {
            destination.RequireReplaceable();
        }

        return destination;
    }

    /// <summary>Checks one that no model is written to, and only what is found beside it by its name.</summary>
    public static Destination Beside(
        string path, IEnumerable<(string Role, string Path)> inputs, bool force = false, bool isAdapter = false)
    {
        var destination = new Destination(path, force, isAdapter, inputs.Select(i => i.Path));
        WriteFailure.RequireNames(path, destination.Path);
        foreach (var (role, input) in inputs)
        {
            var real = RealPath.Of(input);
            var relation = destination.Path == real ? $"is the {role} itself"
                : RealPath.IsWithin(destination.Path, real) ? $"lies inside the {role} '{input}'"
                : RealPath.IsWithin(real, destination.Path) ? $"contains the {role} '{input}'"
                : null;
            if (relation is not null)
            {
                throw new MergeException(MergeError.InvalidDestination, $"The destination '{path}' {relation}, which is never written to.",
                    path, "Choose another -Destination.");
            }
        }

        if (File.Exists(destination.Path))
        {
            throw new MergeException(MergeError.InvalidDestination, $"The destination '{path}' is a file.", path,
                "Choose another -Destination.");
        }

        return destination;
    }

    /// <summary>Refuses a save for which there is no room. The old model stays until the new one is complete, so its space does not
    /// count.</summary>
    public void RequireRoom(long bytes)
    {
        if (DiskSpace.At(Path) is { } free && free < bytes)
        {
            var (needed, left) = ByteSize.Distinct(bytes, free);
            throw new MergeException(
                MergeError.DiskFull, $"The model needs {needed}, but only {left} are free at '{Given}'.", Given,
                "Free some space, or choose a -Destination on another disk.");
        }
    }

    /// <summary>Says what a loss of power has left of the model that will be replaced, if that was saved without waiting for the
    /// disk.</summary>
    public void NoteLost(Action<MergeWarning> note)
    {
        if (Exists && UnsyncedFiles.Lost(Path) is { Count: > 0 } lost)
        {
            note(new MergeWarning(MergeWarningId.LostFiles,
                $"Of the model at '{Given}' files were lost, as after a loss of power: {string.Join(", ", lost.Take(5))}"
                + $"{(lost.Count > 5 ? $" and {lost.Count - 5} more" : "")}. It is replaced."));
        }
    }

    /// <summary>The error of a save that the system did not let finish.</summary>
    internal MergeException NotWritten(Exception cause) => WriteFailure.At(Given, cause);

    /// <summary>Checks that what is at the destination may be replaced. A save takes long, so it asks again before it does. The staging
    /// directory of the save itself, once it is <paramref name="underWay"/>, may lie inside.</summary>
    public void RequireReplaceable(bool underWay = false)
    {
        if (!Exists || !ModelSwap.Entries(Path, System.IO.Path.Combine(Path, StagingName)).Any())
        {
            return;
        }

        if (!_force)
        {
            throw new MergeException(MergeError.DestinationExists, $"The destination '{Given}' exists already.", Given,
                "Use -Force to replace the model there, or choose another -Destination."
                    + (!underWay && Stagings.FirstOrDefault(Directory.Exists) is { } left
                        ? $" '{left}' is left of an interrupted save." : ""));
        }

        var (kind, article) = _isAdapter ? ("adapter", "an") : ("model", "a");
        if (!ModelFiles.Is(Path, _isAdapter))
        {
            throw new MergeException(MergeError.InvalidDestination,
                $"The destination '{Given}' holds files, but no {kind}. -Force replaces {article} {kind}; it deletes nothing else.",
                Given, "Move those files away, or choose another -Destination.");
        }

        var foreign = ModelFiles.Foreign(Path, _isAdapter, _inputs)
            .Where(f => !f.StartsWith(StagingName + '/', StringComparison.Ordinal) && f != "lost+found/").ToList();
        if (foreign.Count > 0)
        {
            throw new MergeException(
                MergeError.InvalidDestination,
                $"The destination '{Given}' holds what is no part of {article} {kind}: " +
                    $"{string.Join(", ", foreign.Take(5))}{(foreign.Count > 5 ? $" and {foreign.Count - 5} more" : "")}. -Force replaces " +
                    $"the {kind}; it does not delete anything else.",
                Given,
                "Move those files away, or choose another -Destination.") { Details = foreign };
        }
    }
}
