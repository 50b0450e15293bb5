using UnslothMerge.IO;
using UnslothMerge.Planning;
using UnslothMerge.Simd;

namespace UnslothMerge.Devices;

/// <summary>Merges batches of rows outside our own kernels: on a GPU. What it can do is <see cref="DeviceSupport"/>'s to say.</summary>
internal interface IMergeDevice : IDisposable
{
    /// <summary>What a person would call it.</summary>
    string Name { get; }

    /// <summary>What the caller may want to know about how it was opened.</summary>
    IReadOnlyList<string> Notes { get; }

    /// <summary>The bytes of its memory that are free.</summary>
    long FreeBytes { get; }

    /// <summary>What it needs beside the tensors.</summary>
    DeviceOverhead Overhead { get; }

    /// <summary>The bytes per second that go up while as many come down, measured in a moment.</summary>
    double MeasureBus();

    /// <summary>Loads what all batches of a tensor share. Several threads may use it at once, each with a lane of its own.</summary>
    IDeviceTensor Open(WriteTensor tensor, InputFiles files);

    /// <summary>Opens a lane for the calling thread.</summary>
    IDeviceLane OpenLane();
}

/// <summary>Device memory that no batch accounts for: what a first merge takes, and what each lane takes.</summary>
internal readonly record struct DeviceOverhead(long Fixed, long PerLane);

/// <summary>A tensor in work on a device.</summary>
internal interface IDeviceTensor : IDisposable;

/// <summary>One thread's way to a device: buffers in both memories, filled again with every batch.</summary>
internal interface IDeviceLane : IDisposable
{
    /// <summary>Reads a batch of rows, merges it on the device and waits for the result: as many bytes as the sink wants, beginning with
    /// the rows in its rounded dtype; valid until the next batch. Throws <see cref="DeviceMemoryException"/> if the batch does not
    /// fit.</summary>
    Span<byte> Merge(IDeviceTensor tensor, long row, int rows, ref TileStatistics statistics);
}

/// <summary>A device has not enough memory for a batch; a smaller one may fit.</summary>
internal sealed class DeviceMemoryException(string message, Exception? inner = null) : Exception(message, inner);
