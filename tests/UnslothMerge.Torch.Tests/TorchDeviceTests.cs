using TorchSharp;
using UnslothMerge.Tests.PowerShell;
using UnslothMerge.Torch.Native;

namespace UnslothMerge.Tests;

[Collection("libtorch")]
public sealed class TorchDeviceTests : IDisposable
{
    private readonly TemporaryDirectory _directory = new();

    public void Dispose() => _directory.Dispose();

    [Theory]
    [InlineData(TensorType.BF16)]
    [InlineData(TensorType.F16)]
    [InlineData(TensorType.F32)]
    public void A_large_merge_is_what_the_cores_make_of_it(TensorType type)
    {
        var plan = Large(type);
        var onCores = TorchRuns.Save(plan, _directory["cores"], null);
        foreach (var (name, elements) in new[] { ("whole", long.MaxValue), ("halved", 100_000L) })
        {
            using var device = TorchRuns.Open(plan, elements: elements);
            Assert.Equal(2, device.Plan.Count);
            var onDevice = TorchRuns.Save(plan, _directory[name], device);
            Assert.All(onCores.Zip(onDevice),
                s =>
                Assert.All(s.First.Tensors.Zip(s.Second.Tensors),
                    t => Assert.Equal(t.First.RelativeChange ?? -1, t.Second.RelativeChange ?? -1, 1e-6)));
            AssertSame(_directory["cores"], _directory[name]);
        }
    }

    [Fact]
    public void Weights_of_4_bits_are_quantized_from_what_comes_down()
    {
        Write();
        var merge = TinyModel.Plan(_directory["base"], _directory["adapter"]);
        var plan = WritePlan.Create(merge, merge.Tensors,
            new WriteOptions(TensorType.BF16, 5_000_000_000) { Quantization = new FourBitRequest(null, null, null, null) });
        using var device = TorchRuns.Open(plan);
        Assert.True(device.Plan.Count > 0);
        var cores = TorchRuns.Save(plan, _directory["cores"], null);
        var there = TorchRuns.Save(plan, _directory["device"], device);
        Assert.All(cores[0].Tensors.Zip(there[0].Tensors),
            t => Assert.Equal(t.First.RelativeError ?? -1, t.Second.RelativeError ?? -1, 1e-4));

        // A value at a rounding tie may find another neighbour, and with it another code.
        var (a, b) = (File.ReadAllBytes(_directory["cores/model.safetensors"]), File.ReadAllBytes(_directory["device/model.safetensors"]));
        Assert.Equal(a.Length, b.Length);
        Assert.True(a.Zip(b).Count(p => p.First != p.Second) < a.Length / 1000);
    }

    [Fact]
    public void What_does_not_fit_at_all_is_an_error_that_leaves_nothing()
    {
        var plan = Large(TensorType.BF16);
        using var device = TorchRuns.Open(plan, elements: 10);
        var error = Assert.Throws<MergeException>(() => TorchRuns.Save(plan, _directory["out"], device));
        Assert.Equal(MergeError.DoesNotFit, error.Error);
        Assert.Contains("-Device cpu", error.Advice, StringComparison.Ordinal);
        Assert.False(Directory.Exists(_directory["out"]));
    }

    [Fact]
    public void Values_beyond_the_range_are_named()
    {
        TinyModel.Base(_directory["base"], TinyTensor.F32("m.weight", [2, 2], 1, 2, 3, 60000));
        TinyModel.Lora(_directory["adapter"], 1, TinyTensor.F32("base_model.model.m.lora_A.weight", [1, 2], 0, 1),
            TinyTensor.F32("base_model.model.m.lora_B.weight", [2, 1], 0, 10000));
        var plan = TinyModel.WritePlan(TinyModel.Plan(_directory["base"], _directory["adapter"]), TensorType.F16);
        using var device = TorchRuns.Open(plan);
        var error = Assert.Throws<MergeException>(() => TorchRuns.Save(plan, _directory["out"], device));
        Assert.Equal(MergeError.NonFiniteResult, error.Error);
        Assert.Contains("'m.weight'", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_adapter_with_nan_is_named()
    {
        TinyModel.Base(_directory["base"], TinyTensor.F32("m.weight", [1, 2], 1, 2));
        TinyModel.Lora(_directory["adapter"], 1, TinyTensor.F32("base_model.model.m.lora_A.weight", [1, 2], 0, float.NaN),
            TinyTensor.F32("base_model.model.m.lora_B.weight", [1, 1], 1));
        var plan = TinyModel.WritePlan(TinyModel.Plan(_directory["base"], _directory["adapter"]));
        using var device = TorchRuns.Open(plan);
        var error = Assert.Throws<MergeException>(() => TorchRuns.Save(plan, _directory["out"], device));
        Assert.Equal(MergeError.InvalidAdapter, error.Error);
        Assert.Contains("lora_A", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Memory_that_libtorch_cannot_give_is_told_from_other_failures()
    {
        using var device = TorchRuns.Open(Large(TensorType.BF16));
        Assert.Throws<DeviceMemoryException>(() => TorchErrors.Translate(() => torch.empty(1L << 50)));
        var other = Assert.Throws<MergeException>(() =>
            TorchErrors.Translate(() => torch.zeros(2, 3).addmm_(torch.zeros(2, 3), torch.zeros(2, 3))));
        Assert.Contains("2x3", other.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', other.Message);
        Assert.True(device.Device.MeasureBus() > 0);
    }

    [Fact]
    public void Nothing_is_left_on_the_device()
    {
        var plan = Large(TensorType.BF16);
        using var device = TorchRuns.Open(plan);
        var before = torch.Tensor.TotalCount;
        TorchRuns.Save(plan, _directory["out"], device);
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
                Save-MergedModel '{{_directory["out"]}}' -Device torch-cpu -NoSync -Verbose 4>&1 | ForEach-Object { "$_" }
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
        Assert.True(File.Exists(_directory["out/model.safetensors"]));
    }

    private WritePlan Large(TensorType type)
    {
        Write();
        return TinyModel.WritePlan(TinyModel.Plan(_directory["base"], _directory["adapter"]), type);
    }

    private void Write()
    {
        TinyModel.Base(_directory["base"], TinyTensor.Random("model.layers.0.m.weight", [700, 896], 1),
            TinyTensor.Random("model.layers.0.n.weight", [900, 512], 2), TinyTensor.Random("copied.weight", [500, 704], 3));
        TinyModel.Lora(
            _directory["adapter"],
            9,
            TinyTensor.Random("base_model.model.model.layers.0.m.lora_A.weight", [9, 896], 5),
            TinyTensor.Random("base_model.model.model.layers.0.m.lora_B.weight", [700, 9], 6),
            TinyTensor.Random("base_model.model.model.layers.0.n.lora_A.weight", [9, 512], 7),
            TinyTensor.Random("base_model.model.model.layers.0.n.lora_B.weight", [900, 9], 8));
    }

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
