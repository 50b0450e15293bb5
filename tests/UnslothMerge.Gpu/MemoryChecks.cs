namespace UnslothMerge.Gpu;

/// <summary>Shows that merges keep to limits of a GPU's memory, and what they do where there is too little.</summary>
internal static class MemoryChecks
{
    /// <summary>Merges with several limits, and compares what is planned with what is taken.</summary>
    public static void Limits(Settings settings)
    {
        using var merge = new SmallMerge(settings.Directory);
        using var device = new TorchDevices().Open(settings.Device);
        using var watch = new MemoryWatch(device);
        foreach (var limit in new[] { 500_000_000L, 1_000_000_000, 3_000_000_000 })
        {
            var plan = DevicePlan.For(merge.Plan, limit, Environment.ProcessorCount, device.Overhead);
            var same = merge.SaveOn(new DeviceRun(device, plan));
            Console.WriteLine(
                $"limit {ByteSize.Text(limit)}: {plan.Count} tensors, {plan.Workers} workers, {ByteSize.Text(plan.DeviceBytes)} planned, "
                + $"{ByteSize.Text(watch.Taken)} taken so far; {same}");
            Assert.True(plan.Count > 0 && plan.DeviceBytes <= limit, "The plan does not keep to the limit.");
            Assert.True(settings.Device.Kind != DeviceKind.Cuda || watch.Taken <= plan.DeviceBytes, "More is taken than planned.");
        }
    }

    /// <summary>Merges on a GPU whose memory was taken after the plan was made: workers close, and batches are halved.</summary>
    public static void FullMemory(Settings settings)
    {
        if (Filled(settings, 600_000_000, m => Console.WriteLine(m())) == 0)
        {
            throw new InvalidOperationException("Everything did fit: nothing was shown.");
        }
    }

    /// <summary>Merges on a GPU that has no memory at all: an error that says so, and no crash.</summary>
    public static void NoRoom(Settings settings) => Filled(settings, 0, m =>
    {
        var error = Assert.Throws<MergeException>(() => m());
        Console.WriteLine(error.Message);
        Assert.Equal(MergeError.DoesNotFit, error.Error);
    });

    private static int Filled(Settings settings, long remainder, Action<Func<SameModels>> check)
    {
        if (settings.Device.Kind != DeviceKind.Cuda)
        {
            Console.WriteLine("Skipped: only a GPU's memory can be filled.");
            return -1;
        }

        var refused = 0;
        AppDomain.CurrentDomain.FirstChanceException += (_, e) => refused += e.Exception is DeviceMemoryException ? 1 : 0;
        using var merge = new SmallMerge(settings.Directory);
        using var device = (TorchDevice)new TorchDevices().Open(settings.Device);
        var plan = DevicePlan.For(merge.Plan, long.MaxValue, Environment.ProcessorCount, device.Overhead);
        using var full = new FullMemory(device, device.Device, remainder);
        Console.WriteLine($"{plan.Workers} workers, {ByteSize.Text(plan.DeviceBytes)} planned, {ByteSize.Text(device.FreeBytes)} free");
        check(() => merge.SaveOn(new DeviceRun(device, plan)));
        Console.WriteLine($"{refused} exceptions for lack of device memory.");
        return refused;
    }
}
