namespace UnslothMerge.Tests;

/// <summary>Saves without PowerShell, on a device or on the cores.</summary>
internal static class DeviceSaves
{
    /// <summary>Plans a merge of a model with one adapter, or with none.</summary>
    public static WritePlan Plan(string model, string? adapter, FourBitRequest? quantization = null)
    {
        var steps = adapter is null ? [] : new[] { new AdapterStep(AdapterDirectory.Open(adapter), 1) };
        var merge = MergePlanner.Plan(ModelDirectory.Open(model), steps, new PlanOptions());
        return WritePlan.Create(merge, merge.Tensors, new WriteOptions(null, 5_000_000_000) { Quantization = quantization });
    }

    /// <summary>Opens a device for a plan.</summary>
    /// <param name="request">The device.</param>
    /// <param name="plan">What is written.</param>
    /// <param name="limit">The bytes that may be taken on the device.</param>
    /// <param name="elements">The most elements of a batch, as if memory ended there.</param>
    public static DeviceRun Open(DeviceRequest request, WritePlan plan, long limit, long elements = long.MaxValue)
    {
        var device = (TorchDevice)new TorchDevices().Open(request);
        device.MostElements = elements;
        return new DeviceRun(device, DevicePlan.For(plan, limit, 3));
    }

    /// <summary>Saves a plan; without a device on the cores.</summary>
    public static IReadOnlyList<SavedShard> Save(WritePlan plan, string output, DeviceRun? device, int workers = 2,
        CancellationToken cancellation = default) => ModelSaver.Save(
        Destination.Check(output, [("base", plan.Merge.Base.Path)], force: false),
        "merged_16bit",
        new RunOptions(ExecutionPlan.For(plan, new MemoryLimit(long.MaxValue), workers, device?.Need), Sync: false) { Device = device },
        null,
        cancellation);
}
