using UnslothMerge.Files;
using UnslothMerge.IO;

namespace UnslothMerge.Saving;

/// <summary>
/// Where a model is written until it is complete: a hidden directory beside the destination, which then takes its name in one step. Where
/// the destination is a mount point, or its parent may not be written, the directory is inside and its files are moved one by one.
/// Disposed without <see cref="Land"/>, it leaves nothing behind.
/// </summary>
internal sealed class StagingDirectory : IDisposable
{
    private readonly Destination _destination;
    private readonly bool _inside;
    private readonly IReadOnlyList<string> _newParents;
    private readonly FileStatus? _made;
    private bool _landed;

    private StagingDirectory(Destination destination, string path, bool inside)
    {
        _destination = destination;
        _inside = inside;
        _newParents = MissingParents(path);
        Path = Directory.CreateDirectory(path).FullName;
        _made = FileStatus.Of(Path);
    }

    /// <summary>The directory to write to.</summary>
    public string Path { get; }

    /// <summary>Makes a staging directory on the destination's file system.</summary>
    public static StagingDirectory Create(Destination destination)
    {
        var name = $".{System.IO.Path.GetFileName(destination.Path)}.unslothmerge-{Guid.NewGuid().ToString("N")[..8]}";
        var parent = System.IO.Path.GetDirectoryName(destination.Path);
        var inside = destination.Exists && (parent is null || IsMountPoint(destination.Path));
        try
        {
            if (!inside)
            {
                try
                {
                    return new StagingDirectory(destination, System.IO.Path.Combine(parent!, name), inside: false);
                }
                catch (UnauthorizedAccessException) when (destination.Exists)
                {
                    // The parent is not ours; the destination may be.
                }
            }

            return new StagingDirectory(destination, System.IO.Path.Combine(destination.Path, name), inside: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw destination.NotWritten(e);
        }
    }

    /// <summary>Gives the complete model its final name. What was there before stays until then, and comes back if that fails.</summary>
    /// <param name="sync">True if the name must survive a loss of power before the previous model is deleted.</param>
    /// <exception cref="MergeException">Something has appeared at the destination that may not be replaced.</exception>
    public void Land(bool sync)
    {
        _destination.RequireReplaceable(Path);
        RequireOwn();
        var old = Path + "-old";
        var undo = new Stack<Action>();
        try
        {
            if (_inside)
            {
                MoveFiles(old, undo);
            }
            else if (!Exchange(undo))
            {
                if (_destination.Exists)
                {
                    Move(_destination.Path, old, undo);
                }

                Move(Path, _destination.Path, undo);
            }

            if (sync)
            {
                Durable.FlushDirectory(System.IO.Path.GetDirectoryName(Path)!);
            }
        }
        catch
        {
            while (undo.TryPop(out var step))
            {
                step();
            }

            throw;
        }

        _landed = true;
        DeleteQuietly(old);
    }

    public void Dispose()
    {
        // Once the model has its name, this is empty, or the previous model.
        DeleteQuietly(Path);

        foreach (var parent in _landed ? [] : _newParents)
        {
            DeleteQuietly(parent, recursive: false);
        }
    }

    // Another directory under the same name would get the model's.
    private void RequireOwn()
    {
        if (FileStatus.Of(Path) is { } now && (now.Inode, now.Device) != (_made?.Inode, _made?.Device))
        {
            throw new IOException($"'{Path}' was replaced while the model was written to it.");
        }
    }

    // On Linux both names change at once, so that the destination always names a model.
    private bool Exchange(Stack<Action> undo)
    {
        if (!OperatingSystem.IsLinux() || !_destination.Exists || !Swap())
        {
            return false;
        }

        undo.Push(() => Swap());
        return true;

        bool Swap() => SystemCalls.Rename(
            SystemCalls.CurrentDirectory, Path, SystemCalls.CurrentDirectory, _destination.Path, SystemCalls.Exchange) == 0;
    }

    private void MoveFiles(string old, Stack<Action> undo)
    {
        Directory.CreateDirectory(old);
        foreach (var entry in Entries(_destination.Path).Where(e => e != Path && e != old).ToList())
        {
            Move(entry, System.IO.Path.Combine(old, System.IO.Path.GetFileName(entry)), undo);
        }

        foreach (var entry in Entries(Path).ToList())
        {
            Move(entry, System.IO.Path.Combine(_destination.Path, System.IO.Path.GetFileName(entry)), undo);
        }
    }

    // Directory.Move moves files as well.
    private static void Move(string from, string to, Stack<Action> undo)
    {
        Directory.Move(from, to);
        undo.Push(() => Directory.Move(to, from));
    }

    // The directories that making one makes as well, the innermost first.
    private static List<string> MissingParents(string path)
    {
        var missing = new List<string>();
        for (var parent = System.IO.Path.GetDirectoryName(path); parent is not null
            && !Directory.Exists(parent); parent = System.IO.Path.GetDirectoryName(parent))
        {
            missing.Add(parent);
        }

        return missing;
    }

    private static IEnumerable<string> Entries(string directory) =>
        Directory.EnumerateFileSystemEntries(directory, "*", new EnumerationOptions { AttributesToSkip = 0 });

    private static bool IsMountPoint(string path) =>
        DriveInfo.GetDrives().Any(d => System.IO.Path.TrimEndingDirectorySeparator(d.Name) == path);

    // Failing to tidy up must not hide why the save failed, nor make a failure of a save that succeeded.
    private static void DeleteQuietly(string path, bool recursive = true)
    {
        try
        {
            if (Directory.Exists(path))
            {
                Directory.Delete(path, recursive);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
        }
    }
}
