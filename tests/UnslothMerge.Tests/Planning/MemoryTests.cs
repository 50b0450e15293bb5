using UnslothMerge.Planning;

namespace UnslothMerge.Tests.Planning;

public sealed class MemoryTests
{
    [Theory]
    [InlineData("2GB", 2_000_000_000)]
    [InlineData("512MiB", 536_870_912)]
    [InlineData("1000000", 1_000_000)]
    public void A_limit_can_be_a_size(string text, long bytes)
    {
        Assert.True(MemoryLimit.TryParse(text, out var limit));
        Assert.Equal(bytes, limit.Bytes);
    }

    [Fact]
    public void A_limit_can_be_a_fraction_of_what_is_free()
    {
        Assert.True(MemoryLimit.TryParse("0.05", out var little));
        Assert.True(MemoryLimit.TryParse("0.9", out var much));
        Assert.True(little.Bytes < much.Bytes);
        Assert.InRange(much.Bytes, 1, HostMemory.Available + Environment.WorkingSet + 1_000_000_000);
    }

    [Theory]
    [InlineData("0")]
    [InlineData("-1")]
    [InlineData("-0.5")]
    [InlineData("0.96")]
    [InlineData("NaN")]
    [InlineData("much")]
    [InlineData("")]
    public void What_is_no_limit_is_refused(string text) => Assert.False(MemoryLimit.TryParse(text, out _));

    [Fact]
    public void Workers_give_way_until_the_merge_fits()
    {
        // What the process holds already counts: other tests give back theirs first.
        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
        using var directory = new TemporaryDirectory();
        var plan = Wide(directory);
        var free = MemoryPlan.For(plan, new MemoryLimit(long.MaxValue), 64);
        var each = Host(free) / free.Workers;

        // More threads than half a gigabyte holds are not worth their memory.
        Assert.InRange(free.Workers, 2, 63);
        Assert.InRange(free.PeakHostBytes, 512_000_000 - each, 512_000_000);

        // One worker's need and half of another's: the process may have grown a little since.
        var limit = free.PeakHostBytes - ((free.Workers - 1) * each) + (each / 2);
        var memory = MemoryPlan.For(plan, new MemoryLimit(limit), 64);
        memory.RequireFit();
        Assert.Equal(1, memory.Workers);
        Assert.InRange(memory.PeakHostBytes, limit - each, limit);
        Assert.Equal(memory.Workers * each, Host(memory));
    }

    [Fact]
    public void Too_little_memory_is_refused_with_an_amount_that_would_do()
    {
        using var directory = new TemporaryDirectory();
        var memory = MemoryPlan.For(Wide(directory), new MemoryLimit(1_000_000), 64);
        Assert.Equal(1, memory.Workers);
        Assert.False(memory.FitsMemory);
        var error = Assert.Throws<MergeException>(memory.RequireFit);
        Assert.Equal(MergeError.DoesNotFit, error.Error);
        Assert.True(ByteSize.TryParse(error.Advice!.Split(" to ")[1].Split(',')[0], out var advised));
        Assert.True(advised > memory.PeakHostBytes, $"{error.Advice} is less than the {memory.PeakHostBytes} needed.");
    }

    // One row takes 16 MB. The files have holes instead of data: only headers are read.
    private static WritePlan Wide(TemporaryDirectory directory)
    {
        const int columns = 4_000_000;
        Sparse(TinyModel.Base(directory["base"]), "model.safetensors", [8, columns], "m.weight");
        var adapter = TinyModel.Lora(directory["adapter"], 1);
        Sparse(adapter, "adapter_model.safetensors", [1, columns], "base_model.model.m.lora_A.weight", [8, 1], "base_model.model.m.lora_B.weight");
        return TinyModel.WritePlan(TinyModel.Plan(directory["base"], adapter));
    }

    private static void Sparse(string directory, string name, long[] shape, string tensor, long[]? shape2 = null, string? tensor2 = null)
    {
        var specs = new List<UnslothMerge.Safetensors.TensorSpec> { new(tensor, UnslothMerge.Safetensors.TensorType.F32, shape) };
        if (tensor2 is not null)
        {
            specs.Add(new(tensor2, UnslothMerge.Safetensors.TensorType.F32, shape2!));
        }

        var layout = new UnslothMerge.Safetensors.ShardLayout(specs, new Dictionary<string, string>());
        using var file = File.Create(Path.Combine(directory, name));
        file.Write(layout.Header);
        file.SetLength(layout.Length);
    }

    private static long Host(MemoryPlan memory) => memory.Stages.Single(s => s.Name == "Merge").Host;
}
