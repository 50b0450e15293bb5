using UnslothMerge.Devices;

namespace UnslothMerge.Gpu.Steps;

/// <summary>Merges with several limits of device memory, and measures what is really taken.</summary>
internal sealed class LimitStep() : Step("limits", 60)
{
    protected override void Do(Settings settings)
    {
        using var merge = new SmallMerge(settings.Directory);
        foreach (var limit in new[] { 60_000_000L, 400_000_000, 2_000_000_000 })
        {
            using var device = new Torch.TorchDevices().Open(settings.Device);
            var plan = DevicePlan.For(merge.Plan, limit, Environment.ProcessorCount);
            using var watch = new MemoryWatch(device);
            var same = merge.SaveOn(new DeviceRun(device, plan));
            Say($"limit {ByteSize.Text(limit)}: {plan.Count} tensors, {plan.Lanes} lanes, {ByteSize.Text(plan.DeviceBytes)} planned, {ByteSize.Text(watch.Stop())} taken at most; {same}");
            if (plan.Count == 0 || plan.DeviceBytes > limit)
            {
                throw new InvalidOperationException($"The plan does not keep to the limit of {ByteSize.Text(limit)}.");
            }
        }
    }
}
