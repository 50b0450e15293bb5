namespace UnslothMerge.Saving;

/// <summary>A folder of one process, which holds a lock in it. Disposed of, it is gone; what a process of this machine left that was killed
/// is deleted by the next one.</summary>
internal sealed class ProcessFolder : IDisposable
{
    private readonly IDisk _disk;
    private readonly StagingLock _lock;

    private ProcessFolder(IDisk disk, string path, StagingLock held) => (_disk, Path, _lock) = (disk, path, held);

    public string Path { get; }

    /// <summary>Makes a folder, and deletes those beside it, of a pattern, that killed processes left.</summary>
    public static ProcessFolder Open(IDisk disk, string path, string pattern)
    {
        var parent = System.IO.Path.GetDirectoryName(path)!;
        disk.CreateTree(parent);
        foreach (var folder in Directory.EnumerateDirectories(parent, pattern).ToList())
        {
            Quietly(() => DeleteDead(disk, folder));
        }

        StagingLock? held;
        do
        {
            // Another process may look in this moment whether it is dead.
            disk.CreateTree(path);
        }
        while ((held = TryLock(path)) is null || !Directory.Exists(path));

        return new ProcessFolder(disk, path, held);
    }

    public void Dispose()
    {
        _lock.Dispose();
        Quietly(() => _disk.DeleteTree(Path));
    }

    // It gets another name first: its process may be alive and about to lock it.
    private static void DeleteDead(IDisk disk, string folder)
    {
        if (!File.Exists(System.IO.Path.Combine(folder, StagingLock.Name)) || TryLock(folder) is not { } dead)
        {
            return;
        }

        var aside = $"{folder}-";
        using (dead)
        {
            disk.Move(folder, aside);
        }

        disk.DeleteTree(aside);
    }

    private static StagingLock? TryLock(string folder)
    {
        try
        {
            return StagingLock.TryTake(folder);
        }
        catch (DirectoryNotFoundException)
        {
            return null;
        }
    }

    // Failing to tidy up must not hide why a save failed, nor make a failure of a save that succeeded.
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
