using UnslothMerge.Devices;
using UnslothMerge.IO;
using UnslothMerge.Planning;
using UnslothMerge.Simd;

namespace UnslothMerge.Gpu;

/// <summary>Counts the batches that a device has no memory for.</summary>
internal sealed class CountingDevice(IMergeDevice device) : IMergeDevice
{
    private int _refused;

    /// <summary>The batches that did not fit.</summary>
    public int Refused => _refused;

    public string Name => device.Name;

    public IReadOnlyList<string> Notes => device.Notes;

    public long FreeBytes => device.FreeBytes;

    public double MeasureBus() => device.MeasureBus();

    public IDeviceTensor Open(WriteTensor tensor, InputFiles files) => device.Open(tensor, files);

    public IDeviceLane OpenLane() => new Lane(this, device.OpenLane());

    public void Dispose() => device.Dispose();

    private sealed class Lane(CountingDevice counter, IDeviceLane lane) : IDeviceLane
    {
        public Span<byte> Merge(IDeviceTensor tensor, long row, int rows, ref TileStatistics statistics)
        {
            try
            {
                return lane.Merge(tensor, row, rows, ref statistics);
            }
            catch (DeviceMemoryException)
            {
                Interlocked.Increment(ref counter._refused);
                throw;
            }
        }

        public void Dispose() => lane.Dispose();
    }
}
