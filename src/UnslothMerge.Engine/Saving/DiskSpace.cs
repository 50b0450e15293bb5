namespace UnslothMerge.Saving;

/// <summary>Free space on the destination's file system.</summary>
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

    /// <summary>Refuses a save for which there is no room. The old model stays until the new one is complete, so its space does not
    /// count.</summary>
    public static void Require(long bytes, Destination destination)
    {
        if (At(destination.Path) is { } free && free < bytes)
        {
            throw new MergeException(
                MergeError.DiskFull,
                $"The model needs {ByteSize.Text(bytes)}, but only {ByteSize.Text(free)} are free at '{destination.Given}'.",
                destination.Given,
                "Free some space, or choose a -Destination on another disk.");
        }
    }

    /// <summary>Refuses to publish a model whose shards have no room on their way.</summary>
    public static void RequireScratch(long bytes, string location)
    {
        if (At(location) is { } free && free < bytes)
        {
            throw new MergeException(
                MergeError.DoesNotFit,
                $"Two shards need {ByteSize.Text(bytes)}, but only {ByteSize.Text(free)} are free at '{location}'.",
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
