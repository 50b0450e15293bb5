using UnslothMerge.Simd;

namespace UnslothMerge.Devices;

/// <summary>Merges batches of rows on a GPU, of tensors that <see cref="DeviceSupport"/> accepts.</summary>
internal interface IMergeDevice : IDisposable
{
    string Name { get; }

    /// <summary>Messages for the user about how it was opened.</summary>
    IReadOnlyList<string> Notes { get; }

    long FreeBytes { get; }

    DeviceOverhead Overhead { get; }

    /// <summary>Measures the bytes per second of an upload during a download of the same size.</summary>
    double MeasureBus();

    /// <summary>Loads what all batches of a tensor share. Several workers may use it at once.</summary>
    IDeviceTensor Open(WriteTensor tensor, InputFiles files);

    /// <summary>Opens a worker for the calling thread. Throws <see cref="DeviceMemoryException"/> if there is no memory for it.</summary>
    IDeviceWorker OpenWorker();
}

/// <summary>Device memory that no batch accounts for: what a first merge takes, and what each worker takes.</summary>
internal readonly record struct DeviceOverhead(long Fixed, long PerWorker);

/// <summary>A tensor that is merged on a device.</summary>
internal interface IDeviceTensor : IDisposable;

/// <summary>A thread's buffers in host and device memory, reused for every batch.</summary>
internal interface IDeviceWorker : IDisposable
{
    /// <summary>Reads a batch of rows, merges it on the device and waits for the result: as many bytes as the sink wants, beginning with
    /// the rows in its rounded dtype; valid until the next batch. Throws <see cref="DeviceMemoryException"/> if the batch does not
    /// fit.</summary>
    Span<byte> Merge(IDeviceTensor tensor, long row, int rows, ref TileStatistics statistics);
}

/// <summary>A device has not enough memory for a batch; a smaller one may fit.</summary>
internal sealed class DeviceMemoryException(string message, Exception? inner = null) : Exception(message, inner);
