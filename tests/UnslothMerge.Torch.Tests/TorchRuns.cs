namespace UnslothMerge.Tests;

/// <summary>How tests save with libtorch on the processor.</summary>
internal static class TorchRuns
{
    /// <summary>The libtorch of the tests: the one that the variable names, else the package's.</summary>
    public static string LibTorch { get; private set; } = "";

    [ModuleInitializer]
    internal static void Find()
    {
        const string variable = "UNSLOTHMERGE_LIBTORCH";
        LibTorch = Environment.GetEnvironmentVariable(variable)
            ?? typeof(TorchRuns).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == "LibTorch").Value!;
        Environment.SetEnvironmentVariable(variable, LibTorch);
    }

    /// <summary>Opens the device for a plan, with at most so many elements in a batch, as if memory ended there.</summary>
    public static DeviceRun Open(WritePlan plan, long elements = long.MaxValue) =>
        DeviceGolden.Open(new DeviceRequest(DeviceKind.TorchCpu), plan, 1_000_000_000, elements);
}
