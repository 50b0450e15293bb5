namespace UnslothMerge.Tests.Devices;

/// <summary>A device without libtorch, for tensors of F32: it adds one to every element, whatever the deltas say. All workers together hold
/// only so many elements, and only so many workers can be open at a time.</summary>
internal sealed class FakeDevice(long capacity, int mostWorkers = int.MaxValue) : IMergeDevice
{
    private int _workers;
    private int _batches;
    private int _open;

    public string Name => "fake";

    public IReadOnlyList<string> Notes => [];

    public long FreeBytes => 1_000_000_000;

    public DeviceOverhead Overhead => default;

    public int Batches => _batches;

    /// <summary>The tensors and workers that were not given back.</summary>
    public int Open => _open;

    public double MeasureBus() => 1e9;

    public IDeviceWorker OpenWorker()
    {
        if (Interlocked.Increment(ref _workers) > mostWorkers)
        {
            Interlocked.Decrement(ref _workers);
            throw new DeviceMemoryException("no worker");
        }

        Interlocked.Increment(ref _open);
        return new Worker(this);
    }

    public void Dispose()
    {
    }

    IDeviceTensor IMergeDevice.Open(WriteTensor tensor, InputFiles files)
    {
        Interlocked.Increment(ref _open);
        return new Rows(this, tensor, tensor.Tensor.Source.Open(files, tensor.Tensor.View));
    }

    private byte[] Merge(Rows tensor, long row, int rows, ref TileStatistics statistics)
    {
        var count = rows * tensor.Write.Tensor.View.Columns;
        if (count > capacity / _workers)
        {
            throw new DeviceMemoryException("full");
        }

        Interlocked.Increment(ref _batches);
        var buffer = new byte[count * sizeof(float)];
        tensor.Reader.Read(row, rows, buffer);
        foreach (ref var value in MemoryMarshal.Cast<byte, float>(buffer.AsSpan()))
        {
            statistics.WeightSquares += value * value;
            statistics.DeltaSquares++;
            value++;
            statistics.NonFinite |= !float.IsFinite(value);
        }

        return buffer;
    }

    private sealed record Rows(FakeDevice Device, WriteTensor Write, TensorReader Reader) : IDeviceTensor
    {
        public void Dispose()
        {
            Reader.Dispose();
            Interlocked.Decrement(ref Device._open);
        }
    }

    private sealed class Worker(FakeDevice device) : IDeviceWorker
    {
        public Span<byte> Merge(IDeviceTensor tensor, long row, int rows, ref TileStatistics statistics) =>
            device.Merge((Rows)tensor, row, rows, ref statistics);

        public void Dispose()
        {
            Interlocked.Decrement(ref device._workers);
            Interlocked.Decrement(ref device._open);
        }
    }
}
