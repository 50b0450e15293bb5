using UnslothMerge.Saving;

namespace UnslothMerge.Hub.Publishing;

/// <summary>A directory for shards on their way to the Hub. Disposed of, it is gone; what a process left that was killed is deleted by the
/// next one at the same location.</summary>
internal sealed class Scratch : IDisposable
{
    private const string Prefix = ".unslothmerge-";

    private readonly string _location;
    private readonly string _parent;
    private StagingLock? _lock;

    /// <summary>Prepares one at a temporary location. Its last name is the repository's.</summary>
    public Scratch(string location, string repository)
    {
        _location = location;
        _parent = System.IO.Path.Combine(location, $"{Prefix}{Guid.NewGuid().ToString("N")[..8]}");
        Path = System.IO.Path.Combine(_parent, repository.Split('/')[^1]);
    }

    /// <summary>The directory.</summary>
    public string Path { get; }

    /// <summary>Makes the directory.</summary>
    public void Open()
    {
        DeleteDead();
        do
        {
            // Another process may look in this moment whether it is dead.
            Directory.CreateDirectory(Path);
        }
        while ((_lock = TryLock(_parent)) is null || !Directory.Exists(Path));
    }

    public void Dispose()
    {
        _lock?.Dispose();
        Quietly(() =>
        {
            if (Directory.Exists(_parent))
            {
                Directory.Delete(_parent, recursive: true);
            }
        });
    }

    private void DeleteDead()
    {
        foreach (var folder in Directory.EnumerateDirectories(_location, Prefix + "*").ToList())
        {
            Quietly(() =>
            {
                if (File.Exists(System.IO.Path.Combine(folder, StagingLock.Name)) && TryLock(folder) is { } dead)
                {
                    // First another name: its process may be alive and about to lock it.
                    var aside = $"{folder}-";
                    using (dead)
                    {
                        Directory.Move(folder, aside);
                    }

                    Directory.Delete(aside, recursive: true);
                }
            });
        }
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

    // Failing to tidy up must not hide why the save failed, nor hinder another.
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
