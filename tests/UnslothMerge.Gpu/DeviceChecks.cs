using TorchSharp;

namespace UnslothMerge.Gpu;

/// <summary>Shows that a device works, and that what it merges is right.</summary>
internal static class DeviceChecks
{
    /// <summary>Versions, whether libtorch loads, and what is fast and free.</summary>
    public static void Probe(Settings settings)
    {
        Console.WriteLine($"{Environment.OSVersion}, .NET {Environment.Version}, {Environment.ProcessorCount} processors");
        Console.WriteLine($"{ByteSize.Text(HostMemory.Available)} of memory free, {CudaDriver.Count} GPUs");
        var clock = Stopwatch.StartNew();
        using var device = (TorchDevice)new TorchDevices().Open(settings.Device);
        Console.WriteLine(string.Join('\n', device.Notes));
        Console.WriteLine($"TorchSharp {typeof(torch).Assembly.GetName().Version?.ToString(3)}, made for libtorch {torch.__version__}");
        Console.WriteLine($"{device.Name} opened in {clock.Elapsed.TotalSeconds:F2} s, {ByteSize.Text(device.FreeBytes)} free");
        Console.WriteLine($"bus: {device.MeasureBus() / 1e9:F1} GB/s each way, one core: {DeviceCost.MeasureCore() / 1e9:F1} GFLOP/s");
        var refused = Assert.Throws<DeviceMemoryException>(() => TorchErrors.Translate(() => torch.empty(1L << 50, device: device.Device)));
        Console.WriteLine($"a petabyte: {refused.Message}");
    }

    /// <summary>Every golden that is there and that a device has a part in.</summary>
    public static void Goldens(Settings settings)
    {
        var failures = new List<Exception>();
        var names = DeviceGolden.Cases.ToList();
        foreach (var name in names)
        {
            try
            {
                DeviceGolden.Check(name, settings.Device);
            }
            catch (Exception e) when (e is not OutOfMemoryException)
            {
                Console.WriteLine($"{name}: {e}");
                failures.Add(e);
            }
        }

        Console.WriteLine($"{names.Count - failures.Count} goldens passed, {failures.Count} failed; each whole, row by row and halved");
        Assert.NotEmpty(names);
        Assert.Empty(failures);
    }
}
