namespace UnslothMerge.Tests.Planning;

public sealed class MemoryTests : FileTests
{
    [Theory]
    [InlineData("2GB", 2_000_000_000)]
    [InlineData("512MiB", 536_870_912)]
    [InlineData("1000000", 1_000_000)]
    public void A_limit_can_be_a_size(string text, long bytes) => Assert.Equal(bytes, MemoryAmount.Parse(text).OfHost().Bytes);

    [Fact]
    public void A_limit_can_be_a_fraction_of_what_is_free()
    {
        var (little, much) = (MemoryAmount.Parse("0.05").OfHost(), MemoryAmount.Parse("0.9").OfHost());
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
    [InlineData("300")]
    public void What_is_no_limit_is_refused(string text)
    {
        var error = Assert.Throws<MergeException>(() => MemoryAmount.Parse(text));
        Assert.Equal((MergeError.InvalidOption, "MaximumMemoryUsage"), (error.Error, error.Target));
    }

    [Theory]
    [InlineData("0.5", 5_000_000)]
    [InlineData("0.95", 9_500_000)]
    [InlineData("3MB", 3_000_000)]
    [InlineData("2GB", 9_500_000)]
    public void A_limit_of_a_device_is_a_share_of_what_is_free_or_a_size_that_is_free(string text, long bytes) =>
        Assert.Equal(bytes, MemoryAmount.Parse(text).OfDevice(10_000_000));

    [Fact]
    public void Workers_give_way_until_the_merge_fits()
    {
        var plan = Wide();
        const long session = 128_000_000;
        var free = ExecutionPlan.For(plan, new MemoryLimit(long.MaxValue), 64, baseline: session);

        // More threads than half a gigabyte holds are not worth their memory.
        Assert.InRange(free.Workers, 2, 63);
        var fewer = ExecutionPlan.For(plan, new MemoryLimit(long.MaxValue), free.Workers - 1, baseline: session);
        var each = free.PeakHostBytes - fewer.PeakHostBytes;
        Assert.InRange(free.PeakHostBytes, 512_000_000 - each, 512_000_000);

        // One worker's need and half of another's.
        var limit = free.PeakHostBytes - ((free.Workers - 1) * each) + (each / 2);
        var memory = ExecutionPlan.For(plan, new MemoryLimit(limit), 64, baseline: session);
        memory.RequireFit();
        Assert.Equal(1, memory.Workers);
        Assert.InRange(memory.PeakHostBytes, limit - each, limit);
        Assert.Equal(memory.WorkerBytes + PieceBuffers.MemoryFor(memory.BufferCount, memory.PieceBytes), Host(memory));
    }

    [Fact]
    public void What_a_device_needs_counts()
    {
        var plan = Wide();
        var (cores, device) = (Of(null), Of(new DeviceNeed("gpu", 5_000_000, 7_000_000)));
        Assert.Equal(("cpu", "gpu"), (cores.Device, device.Device));
        Assert.Equal(7_000_000, device.PeakHostBytes - cores.PeakHostBytes);
        Assert.Equal(7_000_000, Host(device) - Host(cores));
        Assert.Equal((0, 5_000_000), (cores.Stages.Sum(s => s.Device), device.Stages.Sum(s => s.Device)));

        ExecutionPlan Of(DeviceNeed? need) => ExecutionPlan.For(plan, new MemoryLimit(long.MaxValue), 1, need, baseline: 0);
    }

    [Fact]
    public void Too_little_memory_is_refused_with_an_amount_that_would_do()
    {
        var memory = ExecutionPlan.For(Wide(), new MemoryLimit(1_000_000), 64, baseline: 0);
        Assert.Equal(1, memory.Workers);
        Assert.False(memory.FitsMemory);
        var error = Errors.Expect(MergeError.DoesNotFit, () => memory.RequireFit());
        Assert.True(ByteSize.TryParse(error.Advice!.Split(" to ")[1].Split(',')[0], out var advised));
        Assert.True(advised > memory.PeakHostBytes, $"{error.Advice} is less than the {memory.PeakHostBytes} needed.");
    }

    [Fact]
    public void Pieces_become_smaller_where_one_worker_has_not_enough()
    {
        var plan = TinyModel.WritePlan(Sparse("""{"r": 256}""", "m", [1024, 4096], [256, 4096], [1024, 256]));
        var usual = ExecutionPlan.For(plan, new MemoryLimit(long.MaxValue), 1);
        var least = ExecutionPlan.For(plan, new MemoryLimit(1), 1);
        Assert.Equal(Tiling.PieceBytes, usual.PieceBytes);
        Assert.Equal(Tiling.MinPieceBytes, least.PieceBytes);
        Assert.True(least.WorkerBytes < usual.WorkerBytes, $"{least.WorkerBytes} is not less than {usual.WorkerBytes}.");
        Assert.Equal(plan.Bytes, least.Write.Bytes);
        Assert.Equal(plan.Tensors.Select(t => t.Tensor), least.Write.Tensors.Select(t => t.Tensor));
    }

    [Fact]
    public void Of_many_experts_only_those_in_work_are_held()
    {
        const int experts = 64, rank = 8, wide = 512;
        var plan = Sparse("""{"r": 8, "target_parameters": ["mlp.experts.down_proj"]}""", "model.layers.0.mlp.experts",
            [experts, wide, wide], [experts * rank, wide], [wide, rank * experts], "down_proj",
            new PlanOptions { MoeOrientation = MoeOrientation.InLast });
        var write = TinyModel.WritePlan(plan);
        var tensor = Assert.Single(write.Tensors);
        var all = tensor.Tensor.Terms.Sum(t => t.Term.ResidentBytes);
        Assert.Equal(experts, tensor.Tensor.Terms.Length);
        Assert.InRange(TensorNeeds.ResidentOf(tensor, 2), 1, all / 8);
        Assert.Equal(all, TensorNeeds.ResidentOf(tensor, 1000));

        // B is scattered over the experts: it is held whole, and counted.
        var memory = ExecutionPlan.For(write, new MemoryLimit(long.MaxValue), 2);
        Assert.Equal(wide * rank * experts * sizeof(float), memory.SharedBytes);
        Assert.Equal(TensorNeeds.ResidentOf(tensor, 2) + memory.SharedBytes, memory.Stages.Single(s => s.Name == "Adapter").Host);
    }

    [Theory]
    [InlineData("0::/a/b", "sys/fs/cgroup/a", "memory.max", "memory.current", "inactive_file 100")]
    [InlineData("0::/not/here", "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file 100")]
    [InlineData("5:cpu,cpuacct:/x\n4:memory:/job", "sys/fs/cgroup/memory/job", "memory.limit_in_bytes", "memory.usage_in_bytes",
        "total_inactive_file 100")]
    public void Limits_of_control_groups_count(string groups, string group, string limit, string usage, string cache)
    {
        using var root = new TemporaryDirectory();
        Write("proc/self/cgroup", groups);
        Assert.Null(ControlGroup.Available(root.Path));
        Write($"{group}/{limit}", "max");
        Write($"{group}/{usage}", "600");
        Write($"{group}/memory.stat", $"anon 500\n{cache}\n");
        Assert.Null(ControlGroup.Available(root.Path));
        Write($"{group}/{limit}", "1000");
        Assert.Equal(500, ControlGroup.Available(root.Path));

        void Write(string name, string text)
        {
            Directory.CreateDirectory(Path.GetDirectoryName(root[name])!);
            File.WriteAllText(root[name], text + "\n");
        }
    }

    [Fact]
    public void Shared_memory_never_exceeds_its_limit()
    {
        using var shared = new SharedBuffers(100);
        var first = shared.Take("a", 60, _ => { });
        var second = new Thread(() => shared.Take("b", 60, _ => { }).Dispose());
        second.Start();
        shared.Take("a", 60, _ => Assert.Fail("It was filled before.")).Dispose();
        SpinWait.SpinUntil(() => !second.IsAlive || second.ThreadState.HasFlag(System.Threading.ThreadState.WaitSleepJoin));
        Assert.True(second.IsAlive, "It was given what does not fit.");
        first.Dispose();
        second.Join();
    }

    // OFT, BOFT, HRA and FRoD of transformers' Conv1D, which stores [inputs, outputs].
    [Fact]
    public void A_reflection_of_a_transposed_weight_holds_all_of_it_in_fp32()
    {
        const int inputs = 600, outputs = 4000, rank = 4;
        var plan = TinyModel.WritePlan(new TinyModel("""{"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}""",
            TinyTensor.Random("h.0.attn.c_proj.weight", [inputs, outputs], 1), TinyTensor.Random("h.0.attn.c_proj.bias", [outputs], 2))
            .With("""{"peft_type": "HRA", "r": 4, "apply_GS": false}""", TinyTensor.Random("h.0.attn.c_proj.hra_u", [inputs, rank], 3))
            .Plan(Temp));
        var reflected = plan.Tensors.Single(t => t.Tensor.IsChanged);

        // The weight, the vectors in double, and a piece of the scan.
        var held = (inputs * outputs * sizeof(float)) + (inputs * rank * sizeof(double)) + reflected.Tiling.Memory.Scan;
        Assert.Equal(held, TensorNeeds.ResidentOf(reflected, 1));
        Assert.False(ExecutionPlan.For(plan, new MemoryLimit(held), 1, baseline: 0).FitsMemory);
    }

    [Fact]
    public void A_short_measurement_gives_a_time_and_leaves_nothing()
    {
        var memory = ExecutionPlan.For(Wide(), new MemoryLimit(long.MaxValue), 2);
        var files = Directory.EnumerateFileSystemEntries(Temp.Path).ToList();
        var speed = SpeedProbe.At(Temp["out/deep"])!;
        Assert.Equal(files, Directory.EnumerateFileSystemEntries(Temp.Path));
        Assert.InRange(speed.Estimate(memory), TimeSpan.FromTicks(1), TimeSpan.FromHours(1));
        Assert.Same(speed, SpeedProbe.At(Temp["elsewhere"]));
    }

    // One row takes 16 MB.
    private WritePlan Wide() => TinyModel.WritePlan(Sparse("""{"r": 1}""", "m", [8, 4_000_000], [1, 4_000_000], [8, 1]));

    // The files have holes instead of data: only headers are read.
    private MergePlan Sparse(string config, string module, long[] weight, long[] a, long[] b, string parameter = "weight",
        PlanOptions? options = null)
    {
        var model = new TinyModel().With(config);
        model.Write(Temp);
        Write("base/model.safetensors", ($"{module}.{parameter}", weight));
        Write("adapter/adapter_model.safetensors", ($"base_model.model.{module}.lora_A.weight", a),
            ($"base_model.model.{module}.lora_B.weight", b));
        return MergePlanner.Plan(ModelDirectory.Open(Temp["base"]), [new AdapterStep(AdapterDirectory.Open(Temp["adapter"]), 1)], options);

        void Write(string path, params (string Name, long[] Shape)[] tensors)
        {
            var specs = tensors.Select(t => new TensorSpec(t.Name, TensorType.F32, t.Shape));
            var layout = new ShardLayout(specs, new Dictionary<string, string>());
            using var file = File.Create(Temp[path]);
            file.Write(layout.Header.ToArray());
            file.SetLength(layout.Length);
        }
    }

    private static long Host(ExecutionPlan memory) => memory.Stages.Single(s => s.Name == "Merge").Host;
}
