namespace UnslothMerge.Devices;

/// <summary>An open device and its plan.</summary>
internal sealed record DeviceRun(IMergeDevice Device, DevicePlan Plan) : IDisposable
{
    public DeviceNeed Need => new(Device.Name, Plan.DeviceBytes, Plan.HostBytes);

    public void Dispose() => Device.Dispose();
}
