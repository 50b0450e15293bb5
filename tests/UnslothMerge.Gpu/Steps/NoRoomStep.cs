using UnslothMerge.Devices;
using UnslothMerge.Torch;

namespace UnslothMerge.Gpu.Steps;

/// <summary>Merges on a GPU that has no memory at all: an error that says so, and no crash.</summary>
internal sealed class NoRoomStep() : Step("no room", 60)
{
    protected override void Do(Settings settings)
    {
        if (!settings.IsGpu)
        {
            Say("Only a GPU's memory can be filled.");
            return;
        }

        using var merge = new SmallMerge(settings.Directory);
        using var device = (TorchDevice)new TorchDevices().Open(settings.Device);
        var plan = DevicePlan.For(merge.Plan, long.MaxValue, Environment.ProcessorCount);
        using var full = new FullMemory(device, device.Device, remainder: 0);
        Say($"{ByteSize.Text(plan.DeviceBytes)} planned, {ByteSize.Text(device.FreeBytes)} free");
        Say($"bus: {Assert.Throws<DeviceMemoryException>(() => device.MeasureBus()).Message}");
        try
        {
            merge.SaveOn(new DeviceRun(device, plan));
        }
        catch (MergeException e) when (e.Error == MergeError.DoesNotFit)
        {
            Say($"Refused, as it should be: {e.Message}");
            return;
        }

        throw new InvalidOperationException("The merge did fit: nothing was shown.");
    }
}
