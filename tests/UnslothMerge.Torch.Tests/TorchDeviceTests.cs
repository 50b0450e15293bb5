using TorchSharp;
using UnslothMerge.Tests.PowerShell;
using UnslothMerge.Torch.Native;

namespace UnslothMerge.Tests;

[Collection("libtorch")]
public sealed class TorchDeviceTests : FileTests
{
    [Theory]
    [InlineData(TensorType.BF16)]
    [InlineData(TensorType.F16)]
    [InlineData(TensorType.F32)]
    internal void A_large_merge_is_what_the_cores_make_of_it(TensorType type)
    {
        var plan = Large(type);
        var onCores = TinyModel.Save(plan, Temp["cores"]);
        foreach (var (name, elements) in new[] { ("whole", long.MaxValue), ("halved", 100_000L) })
        {
            using var device = TorchRuns.Open(plan, elements: elements);
            Assert.Equal(2, device.Plan.Count);
            var onDevice = TinyModel.Save(plan, Temp[name], device: device);
            Assert.All(onCores.Zip(onDevice),
                s =>
                Assert.All(s.First.Tensors.Zip(s.Second.Tensors),
                    t => Assert.Equal(t.First.Figures.RelativeChange ?? -1, t.Second.Figures.RelativeChange ?? -1, 1e-6)));
            AssertSame(Temp["cores"], Temp[name]);
        }
    }

    [Fact]
    public void Weights_of_4_bits_are_quantized_from_what_comes_down()
    {
        var plan = Large(TensorType.BF16, new FourBitRequest(null, null, null, null));
        using var device = TorchRuns.Open(plan);
        Assert.True(device.Plan.Count > 0);
        var cores = TinyModel.Save(plan, Temp["cores"]);
        var there = TinyModel.Save(plan, Temp["device"], device: device);
        Assert.All(cores[0].Tensors.Zip(there[0].Tensors),
            t => Assert.Equal(t.First.Figures.RelativeError ?? -1, t.Second.Figures.RelativeError ?? -1, 1e-4));

        // A value at a rounding tie may find another neighbour, and with it another code.
        var (a, b) = (File.ReadAllBytes(Temp["cores/model.safetensors"]), File.ReadAllBytes(Temp["device/model.safetensors"]));
        Assert.Equal(a.Length, b.Length);
        Assert.True(a.Zip(b).Count(p => p.First != p.Second) < a.Length / 1000);
    }

    [Fact]
    public void What_does_not_fit_at_all_is_an_error_that_leaves_nothing()
    {
        var plan = Large(TensorType.BF16);
        using var device = TorchRuns.Open(plan, elements: 10);
        Errors.Expect(MergeError.DoesNotFit, () => TinyModel.Save(plan, Temp["out"], device: device), "-Device cpu");
        Assert.False(Directory.Exists(Temp["out"]));
    }

    [Fact]
    public void Values_beyond_the_range_are_named()
    {
        var model = new TinyModel(TinyTensor.F32("m.weight", [2, 2], 1, 2, 3, 60000)).WithLora("m", [0, 1], [0, 10000]);
        var plan = TinyModel.WritePlan(model.Plan(Temp), TensorType.F16);
        using var device = TorchRuns.Open(plan);
        Errors.Expect(MergeError.NonFiniteResult, () => TinyModel.Save(plan, Temp["out"], device: device), "'m.weight'");
    }

    [Fact]
    public void An_adapter_with_nan_is_named()
    {
        var model = new TinyModel(TinyTensor.F32("m.weight", [1, 2], 1, 2)).WithLora("m", [0, float.NaN], [1]);
        var plan = TinyModel.WritePlan(model.Plan(Temp));
        using var device = TorchRuns.Open(plan);
        Errors.Expect(MergeError.InvalidAdapter, () => TinyModel.Save(plan, Temp["out"], device: device), "lora_A");
    }

    [Fact]
    public void Memory_that_libtorch_cannot_give_is_told_from_other_failures()
    {
        using var device = TorchRuns.Open(Large(TensorType.BF16));
        Assert.Throws<DeviceMemoryException>(() => TorchErrors.Translate(() => torch.empty(1L << 50)));
        var other = Errors.Expect(() => TorchErrors.Translate(() => torch.zeros(2, 3).addmm_(torch.zeros(2, 3), torch.zeros(2, 3))), "2x3");
        Assert.DoesNotContain('\n', other.Message);
        Assert.True(device.Device.MeasureBus() > 0);
    }

    [Fact]
    public void Nothing_is_left_on_the_device()
    {
        var plan = Large(TensorType.BF16);
        using var device = TorchRuns.Open(plan);
        var before = torch.Tensor.TotalCount;
        TinyModel.Save(plan, Temp["out"], device: device);
        Assert.Equal(before, torch.Tensor.TotalCount);
    }

    [Fact]
    public void The_binding_is_for_the_version_that_is_asked_for()
    {
        // Loaded first: TorchSharp would look for libtorch by itself.
        using var device = new TorchDevices().Open(new DeviceRequest(DeviceKind.TorchCpu));
        Assert.True(LibTorch.IsSupported(torch.__version__), torch.__version__);
    }

    [Fact]
    public void The_module_loads_it_on_demand()
    {
        var lines = PowerShellProcess.RunWithModule(
            $$"""
            $plan = Get-MergeMemoryPlan '{{Fixtures.Base("llama-bf16")}}' '{{Fixtures.Adapter("dora-linear")}}' -Device torch-cpu
            "$($plan.Device) $($plan.PeakDeviceBytes -gt 0)"
            Merge-LoraModel '{{Fixtures.Base("llama-bf16")}}' '{{Fixtures.Adapter("dora-linear")}}' |
                Save-MergedModel '{{Temp["out"]}}' -Device torch-cpu -NoSync -Verbose 4>&1 | ForEach-Object { "$_" }
            foreach ($assembly in [AppDomain]::CurrentDomain.GetAssemblies()) {
                if ($assembly.GetName().Name -in 'TorchSharp', 'UnslothMerge.Torch') {
                    [System.Runtime.Loader.AssemblyLoadContext]::GetLoadContext($assembly).Name
                }
            }
            """,
            ("UNSLOTHMERGE_LIBTORCH", TorchRuns.LibTorch));
        Assert.Equal("torch-cpu True", lines[0]);
        Assert.Contains(lines, l => l.StartsWith("libtorch 2.10", StringComparison.Ordinal));
        Assert.Contains(lines, l => l.StartsWith("Device: torch-cpu merges", StringComparison.Ordinal));
        Assert.Equal(["UnslothMerge.Torch", "UnslothMerge.Torch"], lines.TakeLast(2));
        Assert.True(File.Exists(Temp["out/model.safetensors"]));
    }

    private WritePlan Large(TensorType type, OutputRequest? quantization = null) => TinyModel.WritePlan(
        new TinyModel(TinyTensor.Random("model.layers.0.m.weight", [700, 896], 1),
            TinyTensor.Random("model.layers.0.n.weight", [900, 512], 2), TinyTensor.Random("copied.weight", [500, 704], 3))
            .WithLora(9, "model.layers.0.m", "model.layers.0.n").Plan(Temp), type, quantization: quantization);

    private static void AssertSame(string expected, string actual)
    {
        using var files = new InputFiles();
        var (a, b) = (Checkpoint.Open(expected), Checkpoint.Open(actual));
        foreach (var tensor in a.Tensors)
        {
            var truth = PassRule.Decode(tensor.Type, files.ReadAll(tensor));
            var found = PassRule.Decode(tensor.Type, files.ReadAll(b.Find(tensor.Name)!));
            var slack = 2e-6 * truth.Max(Math.Abs);
            var width = tensor.Type switch { TensorType.BF16 => 8, TensorType.F16 => 11, _ => 24 };
            Assert.All(truth.Zip(found),
                p =>
                Assert.True(Math.Abs(p.First - p.Second) <= slack +
                    Math.ScaleB(1, Math.ILogB(Math.Max(Math.Abs(p.First), 1e-5)) + 1 - width),
                    $"{tensor.Name}: {p.Second} instead of {p.First}"));
        }
    }
}
