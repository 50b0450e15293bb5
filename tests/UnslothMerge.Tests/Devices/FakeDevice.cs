namespace UnslothMerge.Tests.Devices;

/// <summary>A device without libtorch, for tensors of F32: it adds one to every element, whatever the deltas say, and holds only so many
/// elements.</summary>
internal sealed class FakeDevice(long capacity, int mostLanes = int.MaxValue) : IMergeDevice
{
    private int _lanes;
    private int _batches;
    private int _open;

    public string Name => "fake";

    public IReadOnlyList<string> Notes => [];

    public long FreeBytes => 1_000_000_000;

    public DeviceOverhead Overhead => default;

    /// <summary>The number of batches that were merged.</summary>
    public int Batches => _batches;

    /// <summary>The tensors and lanes that were not given back.</summary>
    public int Open => _open;

    public double MeasureBus() => 1e9;

    public IDeviceLane OpenLane() => new Lane(this);

    public void Dispose()
    {
    }

    IDeviceTensor IMergeDevice.Open(WriteTensor tensor, InputFiles files) => new Rows(this, tensor, files);

    private sealed class Rows : IDeviceTensor
    {
        private readonly FakeDevice _device;

        public Rows(FakeDevice device, WriteTensor write, InputFiles files)
        {
            (_device, Write) = (device, write);
            Reader = write.Tensor.Source.Open(files, write.Tensor.View);
            Interlocked.Increment(ref device._open);
        }

        public WriteTensor Write { get; }

        public TensorReader Reader { get; }

        public void Dispose()
        {
            Reader.Dispose();
            Interlocked.Decrement(ref _device._open);
        }
    }

    private sealed class Lane : IDeviceLane
    {
        private readonly FakeDevice _device;
        private byte[] _buffer = [];

        public Lane(FakeDevice device)
        {
            _device = device;
            if (Interlocked.Increment(ref device._lanes) > device.MostLanes)
            {
                Interlocked.Decrement(ref device._lanes);
                throw new DeviceMemoryException("no lane");
            }

            Interlocked.Increment(ref device._open);
        }

        public Span<byte> Merge(IDeviceTensor tensor, long row, int rows, ref TileStatistics statistics)
        {
            var work = (Rows)tensor;
            var count = rows * work.Write.Tensor.View.Columns;
            if (count > _device.Capacity / _device._lanes)
            {
                throw new DeviceMemoryException("full");
            }

            Interlocked.Increment(ref _device._batches);
            _buffer = new byte[count * sizeof(float)];
            work.Reader.Read(row, rows, _buffer);
            foreach (ref var value in MemoryMarshal.Cast<byte, float>(_buffer.AsSpan()))
            {
                statistics.WeightSquares += value * value;
                statistics.DeltaSquares++;
                value++;
                statistics.NonFinite |= !float.IsFinite(value);
            }

            return _buffer;
        }

        public void Dispose()
        {
            Interlocked.Decrement(ref _device._lanes);
            Interlocked.Decrement(ref _device._open);
        }
    }

    private long Capacity => capacity;

    private int MostLanes => mostLanes;
}
