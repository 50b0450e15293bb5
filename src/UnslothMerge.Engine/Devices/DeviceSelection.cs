using UnslothMerge.Planning;

namespace UnslothMerge.Devices;

/// <summary>Finds and opens the device that a caller asked for, or the one that suits the work.</summary>
internal static class DeviceSelection
{
    /// <summary>Opens a device; null if the cores do all the work. <paramref name="note"/> receives which device it is, and why.</summary>
    public static DeviceRun? Open(DeviceRequest request, WritePlan plan, MemoryAmount memory, int workers, Action<string> note)
    {
        if (request.Kind == DeviceKind.Cpu || (request.Kind == DeviceKind.Auto && StaysWithCores(plan, workers, note)))
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

            if (request.Kind == DeviceKind.Auto && !IsFaster(device, DeviceWork.Of(plan), workers, note))
            {
                device.Dispose();
                return null;
            }

            var run = new DeviceRun(device, DevicePlan.For(plan, memory.OfDevice(device.FreeBytes), workers, device.Overhead));
            note(
                $"Device: {device.Name} merges {run.Plan.Count} tensors through {run.Plan.Lanes} lanes, "
                + $"with at most {ByteSize.Text(run.Plan.DeviceBytes)} of its memory{Left(run.Plan)}.");
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

    // What can be known without libtorch, which takes longer to load than most merges.
    private static bool StaysWithCores(WritePlan plan, int workers, Action<string> note)
    {
        if (CudaDriver.Count == 0)
        {
            note("Device: cpu. There is no NVIDIA GPU.");
            return true;
        }

        var work = DeviceWork.Of(plan);
        var seconds = work.CoreSeconds(workers, DeviceWork.MeasureCore());
        if (seconds < DeviceWork.StartSeconds)
        {
            note(string.Create(CultureInfo.InvariantCulture,
                $"Device: cpu. {workers} cores need about {seconds:0.0} s for the {work.Flops / 1e9:0} GFLOP of the deltas; a GPU would " +
                $"take as long to start."));
            return true;
        }

        return false;
    }

    private static bool IsFaster(IMergeDevice device, DeviceWork work, int workers, Action<string> note)
    {
        var bus = device.MeasureBus();
        var (cores, there) = (work.CoreSeconds(workers, DeviceWork.MeasureCore()), work.DeviceSeconds(workers, bus));
        note(string.Create(
            CultureInfo.InvariantCulture,
            $"Device: {(there < cores ? device.Name : "cpu")}. {workers} cores need about {cores:0.0} s for the " +
                $"{work.Flops / 1e9:0} GFLOP of the deltas, {device.Name} about {there:0.0} s with its bus of {bus / 1e9:0.0} GB/s."));
        return there < cores;
    }

    private static string Left(DevicePlan plan) =>
        plan.Left.Length == 0 ? "" : $"; the cores keep {string.Join(", ", plan.Left.Select(l => $"{l.Value} ({l.Key})"))}";
}
