using System.Collections.Immutable;

namespace UnslothMerge.Planning;

/// <summary>What one stage of a merge needs, in bytes.</summary>
/// <param name="Name">Plan, Adapter, Merge or Copy.</param>
/// <param name="Read">Read from the base and the adapters.</param>
/// <param name="Written">Written to the output.</param>
/// <param name="Host">Held in memory at the same time.</param>
/// <param name="Device">Held in a device's memory at the same time.</param>
/// <param name="Disk">Taken on the destination's disk.</param>
public sealed record MemoryStage(string Name, long Read, long Written, long Host, long Device, long Disk);

/// <summary>What a device needs besides.</summary>
/// <param name="Name">The device.</param>
/// <param name="DeviceBytes">The most of its own memory.</param>
/// <param name="HostBytes">The most host memory, for what goes up and comes down.</param>
public sealed record DeviceNeed(string Name, long DeviceBytes, long HostBytes);

/// <summary>What a merge will need, known before anything is written; the executor keeps to it.</summary>
public sealed class MemoryPlan
{
    /// <summary>The shared factors of all targets in work may take this much, or as much as the largest target needs.</summary>
    private const long UsualResidentBytes = 96L * 1000 * 1000;

    /// <summary>What a merge takes at most as long as one worker can do with less: more threads than that would not be faster than the disk.</summary>
    private const long UsualPeakBytes = 512L * 1000 * 1000;

    /// <summary>What the runtime itself may grow by while the merge runs: compiled code, thread stacks, small objects.</summary>
    private const long RuntimeBytes = 48L * 1000 * 1000;

    /// <summary>What each worker has at least: the buffer for copies that the kernel cannot do alone.</summary>
    public const int CopyBytes = 1024 * 1024;

    private MemoryPlan(WritePlan plan, int workers, long residentBytes, long limit, long baseline, DeviceNeed? device)
    {
        Workers = workers;
        Device = device?.Name ?? "cpu";
        ResidentBytes = residentBytes;
        LimitBytes = limit;
        Stages = [.. StagesOf(plan, workers, residentBytes, device)];
        PeakHostBytes = baseline + RuntimeBytes + Stages.Sum(s => s.Host);
    }

    /// <summary>The number of threads.</summary>
    public int Workers { get; }

    /// <summary>Where the arithmetic is done.</summary>
    public string Device { get; }

    /// <summary>The most that the factors shared by all workers take at the same time.</summary>
    public long ResidentBytes { get; }

    /// <summary>The stages.</summary>
    public ImmutableArray<MemoryStage> Stages { get; }

    /// <summary>The most memory that the process takes, everything included.</summary>
    public long PeakHostBytes { get; }

    /// <summary>The most memory that the process may take.</summary>
    public long LimitBytes { get; }

    /// <summary>True if the merge keeps within the limit.</summary>
    public bool FitsMemory => PeakHostBytes <= LimitBytes;

    /// <summary>Plans for as many workers as the limit allows.</summary>
    /// <param name="plan">What is written.</param>
    /// <param name="limit">How much memory may be taken.</param>
    /// <param name="workers">The most threads.</param>
    /// <param name="device">What a device needs, if one takes some of the tensors.</param>
    public static MemoryPlan For(WritePlan plan, MemoryLimit limit, int workers, DeviceNeed? device = null)
    {
        var baseline = Environment.WorkingSet;
        var largest = plan.Tensors.Select(ResidentOf).DefaultIfEmpty().Max();
        var resident = Math.Min(plan.Tensors.Sum(ResidentOf), Math.Max(largest, UsualResidentBytes));
        var memory = new MemoryPlan(plan, workers, resident, limit.Bytes, baseline, device);
        if (!memory.FitsMemory)
        {
            memory = new MemoryPlan(plan, workers, largest, limit.Bytes, baseline, device);
        }

        while ((!memory.FitsMemory || memory.PeakHostBytes > UsualPeakBytes) && workers > 1)
        {
            memory = new MemoryPlan(plan, --workers, largest, limit.Bytes, baseline, device);
        }

        return memory;
    }

    /// <summary>Refuses a merge that does not fit.</summary>
    /// <exception cref="MergeException">It does not.</exception>
    public void RequireFit()
    {
        if (!FitsMemory)
        {
            // Somewhat more than the figure: it is rounded, and the next plan finds the process a little larger.
            var enough = PeakHostBytes + (PeakHostBytes / 20);
            throw new MergeException(
                MergeError.DoesNotFit,
                $"The merge needs {ByteSize.Text(PeakHostBytes)} of memory with one worker, but only {ByteSize.Text(LimitBytes)} may be used.",
                "MaximumMemoryUsage",
                $"Raise -MaximumMemoryUsage to {ByteSize.Text(enough)}, or free some memory.");
        }
    }

    /// <summary>The bytes that a tensor's deltas and its writer hold while it is in work.</summary>
    public static long ResidentOf(WriteTensor tensor) => tensor.Sink.ResidentBytes + tensor.Tensor.Terms.Sum(t => t.Term.ResidentBytes);

    private static IEnumerable<MemoryStage> StagesOf(WritePlan plan, int workers, long residentBytes, DeviceNeed? device)
    {
        var tensors = plan.Tensors.ToList();
        var merged = tensors.Where(t => t.Verbatim is null).ToList();
        var copied = tensors.Where(t => t.Verbatim is not null).ToList();
        var headers = plan.Shards.Sum(s => (long)s.Layout.Header.Length);
        var inputs = merged.SelectMany(t => t.Tensor.Terms).SelectMany(t => t.Term.Inputs).Sum(i => i.Length);
        yield return new MemoryStage("Plan", headers, headers, 4 * headers, 0, headers);
        yield return new MemoryStage("Adapter", inputs, 0, residentBytes, 0, 0);
        var buffers = Math.Max(CopyBytes, merged.Select(t => t.Tiling.WorkerBytes).DefaultIfEmpty().Max());
        yield return new MemoryStage("Merge", merged.Sum(t => t.Tensor.Source.Inputs.Sum(i => i.Length)), merged.Sum(t => t.Bytes), (workers * buffers) + (device?.HostBytes ?? 0), device?.DeviceBytes ?? 0, merged.Sum(t => t.Bytes));
        yield return new MemoryStage("Copy", copied.Sum(t => t.Bytes), copied.Sum(t => t.Bytes), 0, 0, copied.Sum(t => t.Bytes));
    }
}
