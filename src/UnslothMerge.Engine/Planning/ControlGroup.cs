namespace UnslothMerge.Planning;

/// <summary>
/// What the control groups of Linux leave to this process: those of containers, services and batch jobs. Every group above it may have a
/// limit, and cache that can be dropped does not count. Source: Linux, <c>Documentation/admin-guide/cgroup-v2.rst</c> and
/// <c>cgroup-v1/memory.rst</c>.
/// </summary>
internal static class ControlGroup
{
    /// <summary>The free bytes of the tightest group; null without limits. Tests use another root of the system's files.</summary>
    public static long? Available(string root = "/")
    {
        var groups = Path.Combine(root, "proc", "self", "cgroup");
        if (!File.Exists(groups))
        {
            return null;
        }

        var mount = Path.Combine(root, "sys", "fs", "cgroup");
        long? least = null;
        foreach (var line in File.ReadLines(groups))
        {
            // id:controllers:path; without controllers it is version 2.
            var parts = line.Split(':', 3);
            var free = parts is [_, "", var unified] ? Tightest(mount, unified, "memory.max", "memory.current", "inactive_file")
                : parts is [_, var controllers, var path] && controllers.Split(',').Contains("memory")
                    ? Tightest(Path.Combine(mount, "memory"), path, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
                : null;
            least = free < (least ?? long.MaxValue) ? free : least;
        }

        return least;
    }

    // In a container the path is the host's, and the files of its own group lie at the mount itself.
    private static long? Tightest(string mount, string path, string limitFile, string usageFile, string cacheKey)
    {
        long? least = null;
        for (var group = path.Trim('/'); ; group = Path.GetDirectoryName(group) ?? "")
        {
            var directory = Path.Combine(mount, group);
            if (Number(Path.Combine(directory, limitFile)) is { } limit && Number(Path.Combine(directory, usageFile)) is { } usage)
            {
                var free = Math.Max(0, limit - usage + Cache(Path.Combine(directory, "memory.stat"), cacheKey));
                least = Math.Min(free, least ?? long.MaxValue);
            }

            if (group.Length == 0)
            {
                return least;
            }
        }
    }

    // "max", or a number beyond any memory, is no limit.
    private static long? Number(string file) =>
        File.Exists(file) && long.TryParse(File.ReadAllText(file).Trim(), CultureInfo.InvariantCulture, out var number) && number < 1L << 60
            ? number
            : null;

    private static long Cache(string file, string key)
    {
        var line = File.Exists(file) ? File.ReadLines(file).FirstOrDefault(l => l.StartsWith(key + " ", StringComparison.Ordinal)) : null;
        return line is not null && long.TryParse(line[(key.Length + 1)..], CultureInfo.InvariantCulture, out var bytes) ? bytes : 0;
    }
}
