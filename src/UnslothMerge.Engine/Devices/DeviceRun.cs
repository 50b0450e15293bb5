using UnslothMerge.Planning;

namespace UnslothMerge.Devices;

/// <summary>An open device and what it does in a save.</summary>
/// <param name="Device">The device.</param>
/// <param name="Plan">Its tensors and batches.</param>
internal sealed record DeviceRun(IMergeDevice Device, DevicePlan Plan) : IDisposable
{
    /// <summary>What it needs besides the cores.</summary>
    public DeviceNeed Need => new(Device.Name, Plan.DeviceBytes, Plan.HostBytes);

    /// <inheritdoc/>
    public void Dispose() => Device.Dispose();
}
