namespace UnslothMerge.Tests.Execution;

public sealed class ExecutorTests : IDisposable
{
    private readonly TemporaryDirectory _directory = new();

    public void Dispose() => _directory.Dispose();

    [Fact]
    public void The_bytes_do_not_depend_on_the_workers_or_the_run()
    {
        var plan = TinyModel.WritePlan(Large(), shard: 1_500_000);
        Assert.True(plan.Shards.Length > 1);
        Assert.True(plan.Tensors.Count(t => t.Tensor.Terms.Length > 0 && t.Tensor.View.Rows > 2 * t.Tiling.Rows) > 1,
            "Some tensors must take several pieces.");

        var results = new List<IReadOnlyList<double?>>();
        foreach (var (name, workers) in new[] { ("one", 1), ("two", 2), ("many", 64), ("again", 2) })
        {
            var shards = TinyModel.Save(plan, _directory[$"{name}/out"], workers);
            results.Add([.. shards.SelectMany(s => s.Tensors).Select(t => t.RelativeChange)]);
        }

        var first = TinyModel.Fingerprint(_directory["one"]);
        Assert.All(["two", "many", "again"], name => Assert.Equal(first, TinyModel.Fingerprint(_directory[name])));
        Assert.All(results, r => Assert.Equal(results[0], r));
    }

    [Fact]
    public void A_cancelled_save_leaves_nothing()
    {
        var plan = TinyModel.WritePlan(Large());
        using var stop = new CancellationTokenSource();
        stop.Cancel();
        Assert.ThrowsAny<OperationCanceledException>(() => TinyModel.Save(plan, _directory["out"], stop: stop));
        AssertNothing();
    }

    [Fact]
    public void A_save_that_is_cancelled_when_all_is_written_leaves_nothing()
    {
        var plan = TinyModel.WritePlan(Large());
        using var stop = new CancellationTokenSource();
        var reports = new Reports(stop);
        Assert.ThrowsAny<OperationCanceledException>(() => TinyModel.Save(plan, _directory["out"], progress: reports, stop: stop));
        Assert.True(reports.Count > 0);
        Assert.Equal(Environment.CurrentManagedThreadId, reports.Thread);
        AssertNothing();
    }

    [Fact]
    public void A_save_whose_progress_cannot_be_shown_leaves_nothing()
    {
        var plan = TinyModel.WritePlan(Large());
        Assert.Throws<InvalidOperationException>(() => TinyModel.Save(plan, _directory["out"], progress: new NoReports()));
        AssertNothing();
    }

    [Theory]
    [InlineData("longer")]
    [InlineData("shorter")]
    [InlineData("touched")]
    [InlineData("gone")]
    [InlineData("replaced by a directory")]
    public void A_base_that_changes_after_the_plan_is_an_error(string how)
    {
        var plan = TinyModel.WritePlan(Large());
        Change(_directory["base/model.safetensors"], how);
        AssertChanged(() => TinyModel.Save(plan, _directory["out"]), "model.safetensors");
    }

    [Theory]
    [InlineData("longer")]
    [InlineData("gone")]
    public void An_adapter_that_changes_after_the_plan_is_an_error(string how)
    {
        var plan = TinyModel.WritePlan(Large());
        Change(_directory["adapter/adapter_model.safetensors"], how);
        AssertChanged(() => TinyModel.Save(plan, _directory["out"]), "adapter_model.safetensors");
    }

    [Fact]
    public void A_file_that_shrinks_while_it_is_read_is_an_error()
    {
        TinyModel.WriteFile(_directory["f"], TinyTensor.F32("a", [4], 1, 2, 3, 4));
        var tensor = SafetensorsFile.Open(_directory["f"]).Tensors[0];
        using var files = new InputFiles();
        Assert.Equal(16, files.ReadAll(tensor).Length);
        using (var file = new FileStream(_directory["f"], FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
        {
            file.SetLength(tensor.Offset + 8);
        }

        Assert.Equal(MergeError.FileChanged, Assert.Throws<MergeException>(() => files.ReadAll(tensor)).Error);
        Assert.Throws<ArgumentOutOfRangeException>(() => files.Read(tensor, 12, new byte[5]));
    }

    [Theory]
    [InlineData(float.NaN, "lora_A")]
    [InlineData(float.PositiveInfinity, "lora_A")]
    [InlineData(float.NaN, "lora_B")]
    [InlineData(float.NegativeInfinity, "lora_B")]
    public void A_diverged_adapter_is_named(float value, string part)
    {
        TinyModel.Base(_directory["base"], TinyTensor.F32("m.weight", [2, 2], 1, 2, 3, 4));
        TinyModel.Lora(
            _directory["adapter"],
            1,
            TinyTensor.F32("base_model.model.m.lora_A.weight", [1, 2], 1, part == "lora_A" ? value : 1),
            TinyTensor.F32("base_model.model.m.lora_B.weight", [2, 1], 0, part == "lora_B" ? value : 1));
        var error = Assert.Throws<MergeException>(() =>
            TinyModel.Save(TinyModel.WritePlan(TinyModel.Plan(_directory["base"], _directory["adapter"])), _directory["out"]));
        Assert.Equal(MergeError.InvalidAdapter, error.Error);
        Assert.Contains($"m.{part}.weight", error.Message, StringComparison.Ordinal);
        AssertNothing();
    }

    [Theory]
    [InlineData(TensorType.F16, 60000f, 10000f)]
    [InlineData(TensorType.BF16, 3.3e38f, 1e38f)]
    [InlineData(TensorType.F32, 3.3e38f, 1e38f)]
    internal void A_sum_beyond_the_range_is_named(TensorType type, float weight, float delta)
    {
        TinyModel.Base(_directory["base"], TinyTensor.F32("fine.weight", [1, 1], 1), TinyTensor.F32("m.weight", [1, 2], 1, weight));
        TinyModel.Lora(_directory["adapter"], 1, TinyTensor.F32("base_model.model.m.lora_A.weight", [1, 2], 0, 1),
            TinyTensor.F32("base_model.model.m.lora_B.weight", [1, 1], delta));
        var error = Assert.Throws<MergeException>(() =>
            TinyModel.Save(TinyModel.WritePlan(TinyModel.Plan(_directory["base"], _directory["adapter"]), type), _directory["out"]));
        Assert.Equal(MergeError.NonFiniteResult, error.Error);
        Assert.Contains("'m.weight'", error.Message, StringComparison.Ordinal);
        AssertNothing();
    }

    [Fact]
    public void Tensors_without_elements_and_scalars_are_saved()
    {
        TinyModel.Base(
            _directory["base"],
            TinyTensor.F32("scalar", [], 0.5f),
            TinyTensor.F32("none", [0]),
            TinyTensor.F32("nothing", [3, 0]),
            new TinyTensor("steps", TensorType.I64, [], BitConverter.GetBytes(7L)));
        TinyModel.Save(TinyModel.WritePlan(TinyModel.Plan(_directory["base"]), TensorType.BF16), _directory["out"]);
        var saved = Checkpoint.Open(_directory["out"]);
        Assert.Equal(["none", "nothing", "scalar", "steps"], saved.Tensors.Select(t => t.Name).Order());
        using var files = new InputFiles();
        Assert.Equal([0x00, 0x3F], files.ReadAll(saved.Find("scalar")!));
        Assert.Equal(BitConverter.GetBytes(7L), files.ReadAll(saved.Find("steps")!));
    }

    [Fact]
    public void A_delta_of_nothing_has_a_relative_change_of_zero()
    {
        TinyModel.Base(_directory["base"], TinyTensor.F32("m.weight", [1, 2], 0, 0));
        TinyModel.Lora(_directory["adapter"], 1, TinyTensor.F32("base_model.model.m.lora_A.weight", [1, 2], 1, 1),
            TinyTensor.F32("base_model.model.m.lora_B.weight", [1, 1], 0));
        var shards = TinyModel.Save(TinyModel.WritePlan(TinyModel.Plan(_directory["base"], _directory["adapter"])), _directory["out"]);
        Assert.Equal(0, shards[0].Tensors[0].RelativeChange);
    }

    private MergePlan Large()
    {
        TinyModel.Base(
            _directory["base"],
            TinyTensor.Random("m.weight", [1400, 900], 1),
            TinyTensor.Random("n.weight", [1800, 500], 2),
            TinyTensor.Random("copied.weight", [500, 700], 3),
            TinyTensor.Random("norm.weight", [900], 4));
        TinyModel.Lora(
            _directory["adapter"],
            9,
            TinyTensor.Random("base_model.model.m.lora_A.weight", [9, 900], 5),
            TinyTensor.Random("base_model.model.m.lora_B.weight", [1400, 9], 6),
            TinyTensor.Random("base_model.model.n.lora_A.weight", [9, 500], 7),
            TinyTensor.Random("base_model.model.n.lora_B.weight", [1800, 9], 8));
        return TinyModel.Plan(_directory["base"], _directory["adapter"]);
    }

    private void AssertChanged(Action save, string file)
    {
        var error = Assert.Throws<MergeException>(save);
        Assert.Equal(MergeError.FileChanged, error.Error);
        Assert.Contains(file, error.Message, StringComparison.Ordinal);
        AssertNothing();
    }

    // Nothing has landed and nothing was left beside the inputs.
    private void AssertNothing() =>
        Assert.All(Directory.EnumerateFileSystemEntries(_directory.Path),
            e => Assert.Contains(Path.GetFileName(e), new[] { "base", "adapter" }));

    private static void Change(string path, string how)
    {
        switch (how)
        {
            case "longer":
                using (var file = File.OpenWrite(path))
                {
                    file.SetLength(file.Length + 1);
                }

                break;
            case "shorter":
                using (var file = File.OpenWrite(path))
                {
                    file.SetLength(file.Length - 1);
                }

                break;
            case "touched":
                File.SetLastWriteTimeUtc(path, DateTime.UtcNow.AddMinutes(1));
                break;
            case "gone":
                File.Delete(path);
                break;
            default:
                File.Delete(path);
                Directory.CreateDirectory(path);
                break;
        }
    }

    private sealed class NoReports : IProgress<MergeProgress>
    {
        public void Report(MergeProgress value) => throw new InvalidOperationException("Nobody can see this.");
    }

    private sealed class Reports(CancellationTokenSource stop) : IProgress<MergeProgress>
    {
        public int Count { get; private set; }

        public int Thread { get; private set; }

        public void Report(MergeProgress value)
        {
            Count++;
            Thread = Environment.CurrentManagedThreadId;
            stop.Cancel();
        }
    }
}
