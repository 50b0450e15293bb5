using UnslothMerge.Planning;

namespace UnslothMerge.Devices;

/// <summary>An open device and what it does in a save.</summary>
internal sealed record DeviceRun(IMergeDevice Device, DevicePlan Plan) : IDisposable
{
    /// <summary>What it needs besides the cores.</summary>
    public DeviceNeed Need => new(Device.Name, Plan.DeviceBytes, Plan.HostBytes);

    public void Dispose() => Device.Dispose();
}
