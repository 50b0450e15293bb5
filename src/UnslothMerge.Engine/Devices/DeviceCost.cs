using UnslothMerge.Simd;

namespace UnslothMerge.Devices;

/// <summary>The operations and transfers of a merge, and the time that the cores or a device need for them.</summary>
internal readonly record struct DeviceCost(double Flops, long UploadBytes, long DownloadBytes)
{
    /// <summary>The time to start libtorch and a GPU: 1.5 s with an H200 and cached files.</summary>
    public const double StartSeconds = 2;

    /// <summary>The factor on the time for files with a device, through pinned memory; measured on the same machine.</summary>
    private const double DeviceFileFactor = 1.15;

    /// <summary>The most that all threads together copy: the limit of 16 cores of that machine.</summary>
    private const double MostFileBytesPerSecond = 8e9;

    /// <summary>What one thread copies from and to files in the page cache; cores and devices both have to.</summary>
    private const double FileBytesPerSecond = 4e9;

    /// <summary>The cost of all tensors that a device can merge.</summary>
    public static DeviceCost Of(WritePlan plan) =>
        plan.Tensors.Where(t => t.Verbatim is null && DeviceSupport.WhyNot(t) is null)
        .Aggregate(default(DeviceCost), (sum, t) => new DeviceCost(
        sum.Flops + FlopsOf(t.Tensor, rankOfOthers: 4),
        sum.UploadBytes + t.Tensor.Source.Inputs.Sum(i => i.Length),
        sum.DownloadBytes + (t.Tensor.View.Count * sizeof(ushort))));

    /// <summary>The floating-point operations of a tensor's deltas; those without a rank count as one of
    /// <paramref name="rankOfOthers"/>.</summary>
    public static double FlopsOf(LogicalTensor tensor, int rankOfOthers) =>
        tensor.Terms.Sum(t => 2.0 * (t.Term.Rank ?? rankOfOthers) * ((t.Term.Rows?.Count ?? tensor.View.Rows) * tensor.View.Columns));

    public double CoreSeconds(int workers, double flopsPerCore) => FileSeconds(workers) + (Flops / (workers * flopsPerCore));

    /// <summary>Without arithmetic, which is faster than any bus.</summary>
    public double DeviceSeconds(int workers, double bus) =>
        StartSeconds + Math.Max(DeviceFileFactor * FileSeconds(workers), Math.Max(UploadBytes, DownloadBytes) / bus);

    /// <summary>Measures the operations per second of the low-rank kernel on one core, for some milliseconds.</summary>
    public static double MeasureCore()
    {
        const int rows = 16, columns = 256, rank = 64;
        using var left = new NativeBuffer(rows * rank * sizeof(float));
        using var right = new NativeBuffer(LoraPanels.Length(rank, columns) * sizeof(float));
        using var delta = new NativeBuffer(rows * columns * sizeof(float));
        left.Floats.Clear();
        right.Floats.Clear();
        var best = double.MaxValue;
        for (var round = 0; round < 50; round++)
        {
            var start = Stopwatch.GetTimestamp();
            for (var i = 0; i < 4; i++)
            {
                LoraKernel.Assign(left.Floats, right.Floats, delta.Floats, rows, columns, rank, columns);
            }

            best = Math.Min(best, Stopwatch.GetElapsedTime(start).TotalSeconds / 4);
        }

        return 2.0 * rows * columns * rank / best;
    }

    private double FileSeconds(int workers) =>
        (UploadBytes + DownloadBytes) / Math.Min(workers * FileBytesPerSecond, MostFileBytesPerSecond);
}
