namespace UnslothMerge.Devices;

/// <summary>The tensors of a plan that a device merges, and the rows of their batches, within a memory limit.</summary>
internal sealed class DevicePlan
{
    /// <summary>The elements of a batch: enough for full speed of bus and GPU, with about 100 MB of device memory per worker.</summary>
    internal const long UsualElements = 4L * 1024 * 1024;

    private const int MostWorkers = 8;

    // By logical tensor: the WriteTensor changes if the cores are planned again.
    private readonly Dictionary<LogicalTensor, int> _rows;

    private DevicePlan(
        List<WriteTensor> tensors,
        ImmutableArray<KeyValuePair<string, int>> rejected,
        int workers,
        long elements,
        long residentBytes,
        DeviceOverhead overhead)
    {
        var batches = tensors.Select(t => (Tensor: t, Rows: Rows(t, elements))).ToList();
        _rows = new Dictionary<LogicalTensor, int>(batches.Select(b => KeyValuePair.Create(b.Tensor.Tensor, b.Rows)),
            ReferenceEqualityComparer.Instance);
        Rejected = rejected;
        ResidentBytes = residentBytes;
        if (batches.Count == 0)
        {
            return;
        }

        Workers = workers;
        var workerBytes = overhead.PerWorker + batches.Max(b => DeviceSupport.BatchBytes(b.Tensor, b.Rows));
        DeviceBytes = overhead.Fixed + residentBytes + (workers * workerBytes);
        HostBytes = workers * batches.Max(b => DeviceSupport.HostBytes(b.Tensor, b.Rows));
    }

    /// <summary>The number of tensors that the device merges.</summary>
    public int Count => _rows.Count;

    /// <summary>The reasons for which tensors with deltas are merged by the cores, with the number of tensors.</summary>
    public ImmutableArray<KeyValuePair<string, int>> Rejected { get; }

    /// <summary>The number of threads that use the device, each with a batch of its own.</summary>
    public int Workers { get; }

    /// <summary>The largest device memory for factors, of all tensors that are merged at a time.</summary>
    public long ResidentBytes { get; }

    /// <summary>The largest use of device memory.</summary>
    public long DeviceBytes { get; }

    /// <summary>The largest use of host memory for transfers.</summary>
    public long HostBytes { get; }

    /// <summary>The rows of a tensor's batch; null if the cores merge it.</summary>
    public int? RowsOf(WriteTensor tensor) => _rows.TryGetValue(tensor.Tensor, out var rows) ? rows : null;

    /// <summary>Plans batches within a limit in bytes: smaller ones, then fewer workers. The cores merge what does not fit.</summary>
    public static DevicePlan For(WritePlan plan, long limit, int mostWorkers, DeviceOverhead overhead = default)
    {
        var room = limit - overhead.Fixed - overhead.PerWorker;

        // One half holds at least one tensor's factors, the other at least one batch: so some plan always fits.
        var changed = plan.Tensors.Where(t => t.Tensor.Terms.Length > 0).Select(t => (
            Tensor: t,
            Why: DeviceSupport.WhyNot(t) ?? (LeastBytes(t) > room / 2 ? "too little device memory" : null))).ToList();
        var tensors = changed.Where(c => c.Why is null).Select(c => c.Tensor).ToList();
        var rejected = changed.Where(c => c.Why is not null).CountBy(c => c.Why!).OrderByDescending(r => r.Value).ToImmutableArray();
        var largest = tensors.Select(DeviceSupport.ResidentBytes).DefaultIfEmpty().Max();
        var resident = Math.Min(tensors.Sum(DeviceSupport.ResidentBytes), Math.Max(largest, room / 4));

        var (workers, elements) = (Math.Clamp(mostWorkers, 1, MostWorkers), UsualElements);
        var fitting = new DevicePlan(tensors, rejected, workers, elements, resident, overhead);
        while (fitting.DeviceBytes > limit && elements > 0)
        {
            (workers, elements) = elements > UsualElements / 8 || workers == 1 ? (workers, elements / 2) : (workers / 2, elements);
            fitting = new DevicePlan(tensors, rejected, workers, elements, resident, overhead);
        }

        return fitting;
    }

    private static long LeastBytes(WriteTensor tensor) =>
        Math.Max(DeviceSupport.ResidentBytes(tensor), DeviceSupport.BatchBytes(tensor, Rows(tensor, 0)));

    private static int Rows(WriteTensor tensor, long elements)
    {
        var quantum = tensor.Tiling.RowQuantum;
        return (int)Math.Min(tensor.Tensor.View.Rows,
            Math.Max(quantum, elements / Math.Max(1, tensor.Tensor.View.Columns) / quantum * quantum));
    }
}
