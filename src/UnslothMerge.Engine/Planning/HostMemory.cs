using System.Globalization;

namespace UnslothMerge.Planning;

/// <summary>The memory of the machine that this process may use, limits of containers included.</summary>
public static class HostMemory
{
    /// <summary>The bytes that are free or can be freed at once.</summary>
    public static long Available
    {
        get
        {
            // The runtime knows the limits of its own; Linux knows how much of the rest is only cache.
            var info = GC.GetGCMemoryInfo();
            var allowed = Math.Max(0, info.TotalAvailableMemoryBytes - Environment.WorkingSet);
            return Math.Min(Math.Min(allowed, ControlGroup.Available() ?? long.MaxValue), FromKernel() ?? Math.Max(0, info.TotalAvailableMemoryBytes - info.MemoryLoadBytes));
        }
    }

    private static long? FromKernel()
    {
        const string file = "/proc/meminfo", key = "MemAvailable:";
        var line = File.Exists(file) ? File.ReadLines(file).FirstOrDefault(l => l.StartsWith(key, StringComparison.Ordinal)) : null;
        return line is not null && long.TryParse(line[key.Length..].Replace("kB", "", StringComparison.Ordinal).Trim(), CultureInfo.InvariantCulture, out var kilobytes) ? kilobytes * 1024 : null;
    }
}

/// <summary>How much memory a merge may take: a fraction of what is free, or a number of bytes for the whole process.</summary>
/// <param name="Bytes">The limit.</param>
public readonly record struct MemoryLimit(long Bytes)
{
    /// <summary>A number below that is no size, but a slip: 2 for 0.2, 75 for 75 percent.</summary>
    private const double LeastBytes = 1_000_000;

    /// <summary>Unsloth's default: three quarters of what is free.</summary>
    public const string Default = "0.75";

    /// <summary>Reads <c>0.75</c> (a fraction, 0 &lt; x ≤ 0.95) or a size such as <c>2GB</c>.</summary>
    public static bool TryParse(string text, out MemoryLimit limit)
    {
        if (double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var number) && number < LeastBytes)
        {
            limit = number is > 0 and < 1 ? new MemoryLimit((long)((HostMemory.Available * number) + Environment.WorkingSet)) : default;
            return number is > 0 and <= 0.95;
        }

        limit = ByteSize.TryParse(text, out var bytes) ? new MemoryLimit(bytes) : default;
        return bytes > 0;
    }
}
