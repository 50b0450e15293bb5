namespace UnslothMerge.Devices;

/// <summary>Opens the requested device, or the faster one.</summary>
internal static class DeviceSelection
{
    /// <summary>Opens a device; null if the cores merge everything. <paramref name="note"/> receives the choice and its reason.</summary>
    public static DeviceRun? Open(DeviceRequest request, WritePlan plan, MemoryAmount memory, int workers, Action<string> note)
    {
        if (request.Kind == DeviceKind.Cpu || (request.Kind == DeviceKind.Auto && CoresAreFaster(plan, workers, note)))
        {
            return null;
        }

        IMergeDevice device;
        try
        {
            device = TorchAssembly.Devices.Open(request.Kind == DeviceKind.Auto ? new DeviceRequest(DeviceKind.Cuda) : request);
        }
        catch (MergeException e) when (request.Kind == DeviceKind.Auto && e.Error == MergeError.DeviceUnavailable)
        {
            note($"Device: cpu. {e.Message}");
            return null;
        }

        try
        {
            foreach (var line in device.Notes)
            {
                note(line);
            }

            if (request.Kind == DeviceKind.Auto && !IsFaster(device, DeviceCost.Of(plan), workers, note))
            {
                device.Dispose();
                return null;
            }

            var run = new DeviceRun(device, DevicePlan.For(plan, memory.OfDevice(device.FreeBytes), workers, device.Overhead));
            note(
                $"Device: {device.Name} merges {run.Plan.Count} tensors with {run.Plan.Workers} threads, "
                + $"with at most {ByteSize.Text(run.Plan.DeviceBytes)} of its memory{Rejected(run.Plan)}.");
            return run;
        }
        catch (DeviceMemoryException e) when (request.Kind == DeviceKind.Auto)
        {
            device.Dispose();
            note($"Device: cpu. {device.Name} has no memory left: {e.Message}");
            return null;
        }
        catch
        {
            device.Dispose();
            throw;
        }
    }

    // Without libtorch, which takes longer to load than most merges run.
    private static bool CoresAreFaster(WritePlan plan, int workers, Action<string> note)
    {
        if (CudaDriver.Count == 0)
        {
            note("Device: cpu. There is no NVIDIA GPU.");
            return true;
        }

        var cost = DeviceCost.Of(plan);
        var seconds = cost.CoreSeconds(workers, DeviceCost.MeasureCore());
        if (seconds < DeviceCost.StartSeconds)
        {
            note(string.Create(CultureInfo.InvariantCulture,
                $"Device: cpu. {workers} cores need about {seconds:0.0} s for the {cost.Flops / 1e9:0} GFLOP of the deltas; starting a " +
                $"GPU would take as long."));
            return true;
        }

        return false;
    }

    private static bool IsFaster(IMergeDevice device, DeviceCost cost, int workers, Action<string> note)
    {
        var bus = device.MeasureBus();
        var (cores, gpu) = (cost.CoreSeconds(workers, DeviceCost.MeasureCore()), cost.DeviceSeconds(workers, bus));
        note(string.Create(
            CultureInfo.InvariantCulture,
            $"Device: {(gpu < cores ? device.Name : "cpu")}. {workers} cores need about {cores:0.0} s for the " +
                $"{cost.Flops / 1e9:0} GFLOP of the deltas, {device.Name} about {gpu:0.0} s with its bus of {bus / 1e9:0.0} GB/s."));
        return gpu < cores;
    }

    private static string Rejected(DevicePlan plan) =>
        plan.Rejected.Length == 0 ? "" : $"; the cores merge {string.Join(", ", plan.Rejected.Select(l => $"{l.Value} ({l.Key})"))}";
}
