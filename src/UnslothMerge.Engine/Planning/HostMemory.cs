namespace UnslothMerge.Planning;

/// <summary>The memory of the machine that this process may use, limits of containers included.</summary>
internal static class HostMemory
{
    /// <summary>The bytes that are free or can be freed at once.</summary>
    public static long Available
    {
        get
        {
            // The runtime knows the limits of its own; Linux knows how much of the rest is only cache.
            var info = GC.GetGCMemoryInfo();
            var allowed = Math.Max(0, info.TotalAvailableMemoryBytes - Environment.WorkingSet);
            return Math.Min(
                Math.Min(allowed, ControlGroup.Available() ?? long.MaxValue),
                FromKernel() ?? Math.Max(0, info.TotalAvailableMemoryBytes - info.MemoryLoadBytes));
        }
    }

    private static long? FromKernel()
    {
        const string file = "/proc/meminfo", key = "MemAvailable:";
        var line = File.Exists(file) ? File.ReadLines(file).FirstOrDefault(l => l.StartsWith(key, StringComparison.Ordinal)) : null;
        return line is not null
            && long.TryParse(
                line[key.Length..].Replace("kB", "", StringComparison.Ordinal).Trim(), CultureInfo.InvariantCulture, out var kilobytes)
            ? kilobytes * 1024
            : null;
    }
}
