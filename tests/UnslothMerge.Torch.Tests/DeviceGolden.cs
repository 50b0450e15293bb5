namespace UnslothMerge.Tests;

/// <summary>The goldens that a device has a part in, against the float64 truth.</summary>
internal static class DeviceGolden
{
    /// <summary>Their names.</summary>
    public static IEnumerable<string> Cases =>
        GoldenCase.All.Where(name =>
            new GoldenCase(name) is { Outcome: "merged", Adapters.Count: > 0 } @case
            && DevicePlan.For(Plan(@case), long.MaxValue, 1).Count > 0);

    /// <summary>Merges a case with memory enough, with as little as holds one row of the largest tensor, and with batches that must be
    /// halved.</summary>
    public static void Check(string name, DeviceRequest request)
    {
        var @case = new GoldenCase(name);
        var plan = Plan(@case);
        using var directory = new TemporaryDirectory();
        foreach (var (folder, limit, elements)
            in new[] { ("whole", 1_000_000_000L, long.MaxValue), ("rows", Least(plan), long.MaxValue), ("halved", 1_000_000_000L, 200L) })
        {
            using var device = Open(request, plan, limit,
                Math.Max(elements, plan.Tensors.Max(t => (long)t.Tensor.View.Columns * t.Tiling.RowQuantum)));
            TinyModel.Save(plan, directory[folder], device: device);
            PassRule.Check(@case, directory[folder]);
        }
    }

    /// <summary>Opens a device for a plan, with so many bytes on it, and batches of so many elements, as if memory ended there.</summary>
    public static DeviceRun Open(DeviceRequest request, WritePlan plan, long limit, long elements = long.MaxValue)
    {
        var device = (TorchDevice)new TorchDevices().Open(request);
        device.MostElements = elements;
        return new DeviceRun(device, DevicePlan.For(plan, limit, 3));
    }

    private static WritePlan Plan(GoldenCase @case) => TinyModel.WritePlan(@case.Plan(), @case.DType);

    // The least memory with which the cores keep nothing that they would not keep otherwise.
    private static long Least(WritePlan plan)
    {
        var all = DevicePlan.For(plan, long.MaxValue, 1).Count;
        var limit = 1000L;
        while (DevicePlan.For(plan, limit, 3).Count < all)
        {
            limit += limit / 10;
        }

        return limit;
    }
}
