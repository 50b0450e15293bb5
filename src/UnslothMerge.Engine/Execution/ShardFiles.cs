namespace UnslothMerge.Execution;

/// <summary>Opens the shards that a run writes.</summary>
internal static class ShardFiles
{
    /// <summary>Makes a file for each shard, and adds it to a list, in their order. Clones come first: only then is it known how much room
    /// the others and what changes need, which is told before any of it is taken.</summary>
    public static void Open(
        IReadOnlyList<WriteShard> shards, string directory, IDisk disk, bool summed, bool preallocated, Action<long> requireRoom,
        List<ShardFile> opened)
    {
        // In memory, preallocating would be the work itself, on one thread.
        preallocated &= !DiskSpace.IsMemory(directory);
        var obstacles = new Dictionary<string, string?>(StringComparer.Ordinal);
        foreach (var shard in shards)
        {
            if (ShardFile.TryClone(disk, Path.Combine(directory, shard.Name), shard, summed, out var obstacle) is { } clone)
            {
                opened.Add(clone);
            }

            obstacles[shard.Name] = obstacle;
        }

        requireRoom(shards.Sum(s => s.Layout.Length) - opened.Sum(f => f.Cloned));
        foreach (var (shard, i) in shards.Select((s, i) => (s, i)).Where(s => obstacles[s.s.Name] is not null))
        {
            opened.Insert(i, ShardFile.Create(
                disk, Path.Combine(directory, shard.Name), shard, preallocated, summed, obstacles[shard.Name]));
        }
    }
}
