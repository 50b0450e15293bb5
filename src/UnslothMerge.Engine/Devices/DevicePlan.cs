using UnslothMerge.Planning;

namespace UnslothMerge.Devices;

/// <summary>Which tensors of a plan a device merges, in batches of how many rows, so that its memory suffices.</summary>
internal sealed class DevicePlan
{
    /// <summary>The elements of a batch: enough for a bus and a GPU to reach their speed, little enough that a lane costs some 100 MB
    /// there.</summary>
    internal const long UsualElements = 4L * 1024 * 1024;

    private const int MostLanes = 8;

    // By what is merged: how the cores cut it may change after the device is planned.
    private readonly Dictionary<LogicalTensor, int> _rows;

    private DevicePlan(
        List<WriteTensor> tensors,
        ImmutableArray<KeyValuePair<string, int>> left,
        int lanes,
        long elements,
        long residentBytes,
        DeviceOverhead overhead)
    {
        var batches = tensors.Select(t => (Tensor: t, Rows: Rows(t, elements))).ToList();
        _rows = new Dictionary<LogicalTensor, int>(batches.Select(b => KeyValuePair.Create(b.Tensor.Tensor, b.Rows)),
            ReferenceEqualityComparer.Instance);
        Left = left;
        ResidentBytes = residentBytes;
        if (batches.Count == 0)
        {
            return;
        }

        Lanes = lanes;
        var laneBytes = overhead.PerLane + batches.Max(b => DeviceSupport.BatchBytes(b.Tensor, b.Rows));
        DeviceBytes = overhead.Fixed + residentBytes + (lanes * laneBytes);
        HostBytes = lanes * batches.Max(b => DeviceSupport.HostBytes(b.Tensor, b.Rows));
    }

    /// <summary>The number of tensors that the device merges.</summary>
    public int Count => _rows.Count;

    /// <summary>Why other tensors with deltas stay with the cores, and how many for each reason.</summary>
    public ImmutableArray<KeyValuePair<string, int>> Left { get; }

    /// <summary>The number of threads that work with the device, each with a batch of its own.</summary>
    public int Lanes { get; }

    /// <summary>The most that the factors of all tensors in work take on the device.</summary>
    public long ResidentBytes { get; }

    /// <summary>The most memory of the device.</summary>
    public long DeviceBytes { get; }

    /// <summary>The most host memory for what goes up and comes down.</summary>
    public long HostBytes { get; }

    /// <summary>The rows of a tensor's batch; null if it stays with the cores.</summary>
    public int? RowsOf(WriteTensor tensor) => _rows.TryGetValue(tensor.Tensor, out var rows) ? rows : null;

    /// <summary>Plans batches that fit into a limit in bytes: smaller ones, then fewer lanes, until they do. What cannot fit stays with the
    /// cores.</summary>
    public static DevicePlan For(WritePlan plan, long limit, int workers, DeviceOverhead overhead = default)
    {
        var room = limit - overhead.Fixed - overhead.PerLane;

        // Half for the factors of one tensor at least, half for a batch at least: so there always is a plan that fits.
        var changed = plan.Tensors.Where(t => t.Tensor.Terms.Length > 0).Select(t => (
            Tensor: t,
            Why: DeviceSupport.WhyNot(t) ?? (LeastBytes(t) > room / 2 ? "too little device memory" : null))).ToList();
        var tensors = changed.Where(c => c.Why is null).Select(c => c.Tensor).ToList();
        var left = changed.Where(c => c.Why is not null).CountBy(c => c.Why!).OrderByDescending(r => r.Value).ToImmutableArray();
        var largest = tensors.Select(DeviceSupport.ResidentBytes).DefaultIfEmpty().Max();
        var resident = Math.Min(tensors.Sum(DeviceSupport.ResidentBytes), Math.Max(largest, room / 4));

        var (lanes, elements) = (Math.Clamp(workers, 1, MostLanes), UsualElements);
        var fitting = new DevicePlan(tensors, left, lanes, elements, resident, overhead);
        while (fitting.DeviceBytes > limit && elements > 0)
        {
            (lanes, elements) = elements > UsualElements / 8 || lanes == 1 ? (lanes, elements / 2) : (lanes / 2, elements);
            fitting = new DevicePlan(tensors, left, lanes, elements, resident, overhead);
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
