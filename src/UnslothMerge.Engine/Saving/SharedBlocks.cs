namespace UnslothMerge.Saving;

/// <summary>What a save will share with the base on the disk, found out by clones that are gone afterwards.</summary>
internal static class SharedBlocks
{
    /// <summary>The shards that will be clones in a directory, or below it. One file of each of the base's disks is tried.</summary>
    public static IReadOnlyList<WriteShard> Find(WritePlan plan, string directory)
    {
        var existing = DiskSpace.Existing(directory);
        return
        [
            .. plan.Shards.Where(s => s.Origin is not null and not { Remote: { IsDownloaded: false } })
                .GroupBy(s => s.Origin!.Status.Device).Where(g => CanClone(g.First().Origin!.Path, existing)).SelectMany(g => g),
        ];
    }

    private static bool CanClone(string source, string directory)
    {
        var path = Path.Combine(directory, $".unslothmerge-{Guid.NewGuid():N}");
        try
        {
            using var clone = SystemDisk.Instance.TryClone(source, path, out _);
            if (clone is not null)
            {
                File.Delete(path);
            }

            return clone is not null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }
}
