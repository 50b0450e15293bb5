using UnslothMerge.Devices;
using UnslothMerge.Torch;

namespace UnslothMerge.Gpu.Steps;

/// <summary>Merges on a GPU whose memory has been taken since the plan was made, so that batches are halved until they fit.</summary>
internal sealed class FullStep() : Step("full memory", 60)
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
        using var full = new FullMemory(device, device.Device, remainder: 600_000_000);
        using var counting = new CountingDevice(device);
        Say($"{ByteSize.Text(plan.DeviceBytes)} planned, {ByteSize.Text(device.FreeBytes)} free");
        var same = merge.SaveOn(new DeviceRun(counting, plan));
        Say($"{counting.Refused} batches did not fit and were halved; {same}");
        if (counting.Refused == 0)
        {
            throw new InvalidOperationException("Every batch did fit: nothing was shown.");
        }
    }
}
