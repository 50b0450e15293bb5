using System.Collections.Concurrent;
using UnslothMerge.Devices;

namespace UnslothMerge.Saving;

/// <summary>How fast this machine is, measured in some tens of milliseconds: copies through the page cache and to the disk at the
/// destination, and the kernel that adds low-rank products. Measured once for each file system and process. The rates are bytes per second
/// of one thread through the page cache, bytes per second to the disk, and floating-point operations per second of one thread.</summary>
internal sealed record SpeedProbe(double CopyRate, double DiskRate, double KernelRate)
{
    private const int PieceBytes = 512 * 1024;
    private const int Pieces = 16;
    private static readonly ConcurrentDictionary<string, SpeedProbe?> Measured = new(StringComparer.Ordinal);

    /// <summary>Measures, with a file that is gone afterwards; null if none can be written there.</summary>
    public static SpeedProbe? At(string path) => Measured.GetOrAdd(DiskSpace.Existing(path), Measure);

    /// <summary>How long a merge takes, about, if the base is in the page cache. What a device computes costs no time beside the
    /// copies, and what is shared with the base is not copied.</summary>
    public TimeSpan Estimate(ExecutionPlan plan, DevicePlan? device = null, long shared = 0)
    {
        var threads = Math.Min(plan.Workers, Environment.ProcessorCount);
        var work = plan.Write.Tensors.Where(t => device?.RowsOf(t) is null).Sum(t => DeviceCost.FlopsOf(t.Tensor, rankOfOthers: 0));
        var bytes = (double)(plan.Write.Bytes - shared);
        return TimeSpan.FromSeconds(Math.Max(((bytes / CopyRate) + (work / KernelRate)) / threads, bytes / DiskRate));
    }

    /// <summary>How long it takes to read all shards once, about.</summary>
    public TimeSpan Reading(WritePlan plan) => TimeSpan.FromSeconds(plan.Bytes / DiskRate);

    private static SpeedProbe? Measure(string directory)
    {
        try
        {
            var path = Path.Combine(directory, $".unslothmerge-{Guid.NewGuid():N}");
            using var file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.Delete, FileOptions.DeleteOnClose,
                PieceBytes * Pieces);
            using var buffer = new NativeBuffer(PieceBytes);
            var clock = Stopwatch.StartNew();
            for (var i = 0; i < Pieces; i++)
            {
                buffer.Bytes.Fill((byte)i);
                SystemDisk.Instance.Write(file, buffer.Bytes, (long)i * PieceBytes);
            }

            for (var i = 0; i < Pieces; i++)
            {
                RandomAccess.Read(file, buffer.Bytes, (long)i * PieceBytes);
            }

            var copied = clock.Elapsed;
            clock.Restart();
            RandomAccess.FlushToDisk(file);
            const double bytes = (double)PieceBytes * Pieces;
            return new SpeedProbe(bytes / copied.TotalSeconds, bytes / (copied + clock.Elapsed).TotalSeconds, DeviceCost.MeasureCore());
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
