using UnslothMerge.IO;
using UnslothMerge.Planning;
using UnslothMerge.Simd;

namespace UnslothMerge.Devices;

/// <summary>What a merge would ask of a device, and how long the cores or the device would take for it.</summary>
internal readonly record struct DeviceWork(double Flops, long UpBytes, long DownBytes)
{
    /// <summary>What starting libtorch and a GPU costs, about, before the first row: 1.5 s with an H200 and cached files.</summary>
    public const double StartSeconds = 2;

    /// <summary>How much longer files take by way of a device, about, measured on the same machine: the bytes pass pinned memory.</summary>
    private const double DeviceFileFactor = 1.15;

    /// <summary>What all threads together copy per second at most, about: 16 cores of that machine did no more.</summary>
    private const double MostFileBytesPerSecond = 8e9;

    /// <summary>What one thread copies out of and into files per second, about, while they are in the page cache: both ways have
    /// to.</summary>
    private const double FileBytesPerSecond = 4e9;

    /// <summary>The work of all tensors that a device could merge.</summary>
    public static DeviceWork Of(WritePlan plan) =>
        plan.Tensors.Where(t => t.Verbatim is null && DeviceSupport.WhyNot(t) is null)
        .Aggregate(default(DeviceWork), (sum, t) => new DeviceWork(
        sum.Flops + FlopsOf(t.Tensor, rankOfOthers: 4),
        sum.UpBytes + t.Tensor.Source.Inputs.Sum(i => i.Length),
        sum.DownBytes + (t.Tensor.View.Count * sizeof(ushort))));

    /// <summary>The floating-point operations of a tensor's deltas; those without a rank count as one of
    /// <paramref name="rankOfOthers"/>.</summary>
    public static double FlopsOf(LogicalTensor tensor, int rankOfOthers) =>
        tensor.Terms.Sum(t => 2.0 * (t.Term.Rank ?? rankOfOthers) * ((t.Term.Rows?.Count ?? tensor.View.Rows) * tensor.View.Columns));

    /// <summary>The seconds that so many cores need.</summary>
    public double CoreSeconds(int workers, double flopsPerCore) => FileSeconds(workers) + (Flops / (workers * flopsPerCore));

    /// <summary>The seconds until a device is done: its arithmetic is faster than any bus.</summary>
    public double DeviceSeconds(int workers, double bus) =>
        StartSeconds + Math.Max(DeviceFileFactor * FileSeconds(workers), Math.Max(UpBytes, DownBytes) / bus);

    /// <summary>Measures for some milliseconds what a core does per second in our own kernel.</summary>
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

    private double FileSeconds(int workers) => (UpBytes + DownBytes) / Math.Min(workers * FileBytesPerSecond, MostFileBytesPerSecond);
}
