namespace UnslothMerge.Files;

/// <summary>Free space on a file system.</summary>
internal static class DiskSpace
{
    /// <summary>The free bytes at a path, or at its nearest parent that exists; null if the system does not say.</summary>
    public static long? At(string path) => Ask(path, d => (long?)d.AvailableFreeSpace);

    /// <summary>True if a directory lies in memory (tmpfs).</summary>
    public static bool IsMemory(string directory) => Ask(directory, d => d.DriveFormat) == "tmpfs";

    /// <summary>A path, or its nearest parent that is a directory.</summary>
    public static string Existing(string path)
    {
        var existing = Path.GetFullPath(path);
        while (!Directory.Exists(existing) && Path.GetDirectoryName(existing) is { } parent)
        {
            existing = parent;
        }

        return existing;
    }

    /// <summary>Refuses to publish a model whose shards have no room on their way.</summary>
    public static void RequireScratch(long bytes, string location)
    {
        if (At(location) is { } free && free < bytes)
        {
            var (needed, left) = ByteSize.Distinct(bytes, free);
            throw new MergeException(
                MergeError.DiskFull,
                $"Two shards need {needed}, but only {left} are free at '{location}'.",
                "TemporaryLocation",
                "Free some space, choose another -TemporaryLocation, or lower -MaxShardSize.");
        }
    }

    // Network shares are no drives.
    private static T? Ask<T>(string path, Func<DriveInfo, T> question)
    {
        try
        {
            return question(new DriveInfo(Existing(path)));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            return default;
        }
    }
}
