using System.Reflection;
using System.Runtime.CompilerServices;
using UnslothMerge.Devices;
using UnslothMerge.Planning;
using UnslothMerge.Saving;
using UnslothMerge.Torch;

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

    /// <summary>Opens the device for a plan.</summary>
    /// <param name="plan">What is written.</param>
    /// <param name="limit">The bytes that may be taken on the device.</param>
    /// <param name="elements">The most elements of a batch, as if memory ended there.</param>
    public static DeviceRun Open(WritePlan plan, long limit = 1_000_000_000, long elements = long.MaxValue)
    {
        var device = (TorchDevice)new TorchDevices().Open(new DeviceRequest(DeviceKind.TorchCpu));
        device.MostElements = elements;
        return new DeviceRun(device, DevicePlan.For(plan, limit, 3));
    }

    /// <summary>Saves a plan; without a device on the cores.</summary>
    public static IReadOnlyList<SavedShard> Save(WritePlan plan, string output, DeviceRun? device) => ModelSaver.Save(
        Destination.Check(output, [("base", plan.Merge.Base.Path)], force: false),
        "merged_16bit",
        new RunOptions(MemoryPlan.For(plan, new MemoryLimit(long.MaxValue), 2, device?.Need), Sync: false) { Device = device },
        null,
        TestContext.Current.CancellationToken);
}
