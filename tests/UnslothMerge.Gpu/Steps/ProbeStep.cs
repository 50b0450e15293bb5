using System.Diagnostics;
using TorchSharp;
using UnslothMerge.Devices;
using UnslothMerge.Planning;
using UnslothMerge.Tests;
using UnslothMerge.Torch;
using static TorchSharp.torch;

namespace UnslothMerge.Gpu.Steps;

/// <summary>Versions, whether libtorch loads, every operation that merges use, and one merge.</summary>
internal sealed class ProbeStep() : Step("probe", 60)
{
    protected override void Do(Settings settings)
    {
        Say($"{Environment.OSVersion}, .NET {Environment.Version}, {Environment.ProcessorCount} processors, {ByteSize.Text(HostMemory.Available)} of memory free");
        Say($"GPUs: {CudaDriver.Count}; the driver supports CUDA {CudaDriver.Version}");
        var clock = Stopwatch.StartNew();
        using var device = (TorchDevice)new TorchDevices().Open(settings.Device);
        foreach (var note in device.Notes)
        {
            Say(note);
        }

        Say($"TorchSharp {typeof(torch).Assembly.GetName().Version?.ToString(3)}, made for libtorch {torch.__version__}");
        Say($"{device.Name} opened in {clock.Elapsed.TotalSeconds:F2} s; {ByteSize.Text(device.FreeBytes)} of its memory free");
        Say($"bus: {device.MeasureBus() / 1e9:F1} GB/s each way, one core: {DeviceWork.MeasureCore() / 1e9:F1} GFLOP/s");
        using (NewDisposeScope())
        {
            Operations(device.Device);
        }

        var refused = Assert.Throws<DeviceMemoryException>(() => TorchErrors.Translate(() => empty(1L << 50, device: device.Device)));
        Say($"a petabyte: {refused.Message}");
        clock.Restart();
        DeviceGolden.Check("lora-all-linear", settings.Device);
        Say($"lora-all-linear merged three times in {clock.Elapsed.TotalSeconds:F2} s");
    }

    private static void Operations(Device device)
    {
        float[] one = [1, 2, 3, 4, 5, 6];
        var a = tensor(one, [2, 3], device: device);
        Expect("tensor", () => a, one);
        Expect("zeros", () => zeros(2, 3, ScalarType.Float32, device), [0, 0, 0, 0, 0, 0]);
        Expect("empty, copy_", () => empty(6, ScalarType.Float32, device).copy_(a.view(6)), one);
        Expect("narrow", () => a.narrow(1, 1, 2), [2, 3, 5, 6]);
        Expect("to bfloat16", () => a.to(ScalarType.BFloat16).to(ScalarType.Float32), one);
        Expect("to float16", () => a.to(ScalarType.Float16).to(ScalarType.Float32), one);
        Expect("to float64, add_, mul_", () => a.to(ScalarType.Float64).add_(a).mul_(a), [2, 8, 18, 32, 50, 72]);
        Expect("add", () => a.add(a), [2, 4, 6, 8, 10, 12]);
        Expect("addmm_", () => zeros(2, 2, ScalarType.Float32, device).addmm_(a, tensor(one, [3, 2], device: device)), [22, 28, 49, 64]);
        Expect("sum by row", () => a.sum(1), [6, 15]);
        Expect("sum in float64", () => a.sum(ScalarType.Float64), [21]);
        Expect("square", () => a.square(), [1, 4, 9, 16, 25, 36]);
        Expect("div, sqrt_", () => a.div(a.square().sqrt_()), [1, 1, 1, 1, 1, 1]);
        Expect("sub_", () => zeros(2, 3, ScalarType.Float32, device).sub_(a), [-1, -2, -3, -4, -5, -6]);
        Expect("isfinite, all", () => a.isfinite().all().to(ScalarType.Float64), [1]);
        Expect("stack, unsqueeze", () => stack([a.sum(ScalarType.Float64), a.sum(ScalarType.Float64)]).unsqueeze(1), [21, 21]);
        Expect("index_select", () => a.index_select(0, tensor(new[] { 1, 0, 1 }, device: device)), [4, 5, 6, 1, 2, 3, 4, 5, 6]);
        Expect("alias", () => a.view(-1).narrow(0, 1, 2).alias(), [2, 3]);
        if (device.type == DeviceType.CUDA)
        {
            Expect("pin_memory", () => tensor(one).pin_memory(), one);
        }
    }

    private static void Expect(string what, Func<Tensor> work, float[] expected)
    {
        Console.Write($"{what} ");
        var values = work().to(ScalarType.Float32).cpu().contiguous().data<float>().ToArray();
        Say(values.SequenceEqual(expected) ? "✓" : throw new InvalidOperationException($"{what} gave {string.Join(' ', values)} instead of {string.Join(' ', expected)}."));
    }
}
