namespace UnslothMerge.Tests.Execution;

public sealed class ExecutorTests : FileTests
{
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
            var shards = TinyModel.Save(plan, Temp[$"{name}/out"], workers);
            results.Add([.. shards.SelectMany(s => s.Tensors).Select(t => t.Figures.RelativeChange)]);
        }

        var first = TinyModel.Fingerprint(Temp["one"]);
        Assert.All(["two", "many", "again"], name => Assert.Equal(first, TinyModel.Fingerprint(Temp[name])));
        Assert.All(results, r => Assert.Equal(results[0], r));
    }

    [Fact]
    public void A_cancelled_save_leaves_nothing()
    {
        var plan = TinyModel.WritePlan(Large());
        using var stop = new CancellationTokenSource();
        stop.Cancel();
        Assert.ThrowsAny<OperationCanceledException>(() => TinyModel.Save(plan, Temp["out"], stop: stop.Token));
        AssertNothing();
    }

    [Fact]
    public void A_save_that_is_cancelled_when_all_is_written_leaves_nothing()
    {
        var plan = TinyModel.WritePlan(Large());
        using var stop = new CancellationTokenSource();
        var reports = new Reports(stop);
        Assert.ThrowsAny<OperationCanceledException>(() => TinyModel.Save(plan, Temp["out"], progress: reports, stop: stop.Token));
        Assert.True(reports.Count > 0);
        Assert.Equal(Environment.CurrentManagedThreadId, reports.Thread);
        AssertNothing();
    }

    [Fact]
    public void A_save_whose_progress_cannot_be_shown_leaves_nothing()
    {
        var plan = TinyModel.WritePlan(Large());
        Assert.Throws<InvalidOperationException>(() => TinyModel.Save(plan, Temp["out"], progress: new NoReports()));
        AssertNothing();
    }

    [Theory]
    [InlineData("base/model.safetensors", "longer")]
    [InlineData("base/model.safetensors", "shorter")]
    [InlineData("base/model.safetensors", "touched")]
    [InlineData("base/model.safetensors", "gone")]
    [InlineData("base/model.safetensors", "replaced by a directory")]
    [InlineData("adapter/adapter_model.safetensors", "longer")]
    [InlineData("adapter/adapter_model.safetensors", "gone")]
    public void An_input_that_changes_after_the_plan_is_an_error(string file, string how)
    {
        var plan = TinyModel.WritePlan(Large());
        Change(Temp[file], how);
        Errors.Expect(MergeError.FileChanged, () => TinyModel.Save(plan, Temp["out"]), Path.GetFileName(file));
        AssertNothing();
    }

    [Fact]
    public void A_file_that_shrinks_while_it_is_read_is_an_error()
    {
        TinyModel.WriteFile(Temp["f"], TinyTensor.F32("a", [4], 1, 2, 3, 4));
        var tensor = SafetensorsFile.Open(Temp["f"]).Tensors[0];
        using var files = new InputFiles();
        Assert.Equal(16, files.ReadAll(tensor).Length);
        using (var file = new FileStream(Temp["f"], FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
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
        var model = new TinyModel(TinyTensor.F32("m.weight", [2, 2], 1, 2, 3, 4))
            .WithLora("m", [1, part == "lora_A" ? value : 1], [0, part == "lora_B" ? value : 1]);
        Errors.Expect(MergeError.InvalidAdapter, () => TinyModel.Save(TinyModel.WritePlan(model.Plan(Temp)), Temp["out"]),
            $"m.{part}.weight");
        AssertNothing();
    }

    [Theory]
    [InlineData(TensorType.F16, 60000f, 10000f)]
    [InlineData(TensorType.BF16, 3.3e38f, 1e38f)]
    [InlineData(TensorType.F32, 3.3e38f, 1e38f)]
    internal void A_sum_beyond_the_range_is_named(TensorType type, float weight, float delta)
    {
        var model = new TinyModel(TinyTensor.F32("fine.weight", [1, 1], 1), TinyTensor.F32("m.weight", [1, 2], 1, weight))
            .WithLora("m", [0, 1], [delta]);
        Errors.Expect(MergeError.NonFiniteResult, () => TinyModel.Save(TinyModel.WritePlan(model.Plan(Temp), type), Temp["out"]),
            "'m.weight'");
        AssertNothing();
    }

    [Fact]
    public void Tensors_without_elements_and_scalars_are_saved()
    {
        TinyModel.Base(
            Temp["base"],
            TinyTensor.F32("scalar", [], 0.5f),
            TinyTensor.F32("none", [0]),
            TinyTensor.F32("nothing", [3, 0]),
            new TinyTensor("steps", TensorType.I64, [], BitConverter.GetBytes(7L)));
        TinyModel.Save(TinyModel.WritePlan(TinyModel.Plan(Temp["base"]), TensorType.BF16), Temp["out"]);
        var saved = Checkpoint.Open(Temp["out"]);
        Assert.Equal(["none", "nothing", "scalar", "steps"], saved.Tensors.Select(t => t.Name).Order());
        using var files = new InputFiles();
        Assert.Equal([0x00, 0x3F], files.ReadAll(saved.Find("scalar")!));
        Assert.Equal(BitConverter.GetBytes(7L), files.ReadAll(saved.Find("steps")!));
    }

    [Fact]
    public void A_delta_of_nothing_has_a_relative_change_of_zero()
    {
        var model = new TinyModel(TinyTensor.F32("m.weight", [1, 2], 0, 0)).WithLora("m", [1, 1], [0]);
        var shards = TinyModel.Save(TinyModel.WritePlan(model.Plan(Temp)), Temp["out"]);
        Assert.Equal(0, shards[0].Tensors[0].Figures.RelativeChange);
    }

    private MergePlan Large() => new TinyModel(
        TinyTensor.Random("m.weight", [1400, 900], 1), TinyTensor.Random("n.weight", [1800, 500], 2),
        TinyTensor.Random("copied.weight", [500, 700], 3), TinyTensor.Random("norm.weight", [900], 4)).WithLora(9, "m", "n").Plan(Temp);

    // Nothing has landed and nothing was left beside the inputs.
    private void AssertNothing() =>
        Assert.All(Directory.EnumerateFileSystemEntries(Temp.Path),
            e => Assert.Contains(Path.GetFileName(e), new[] { "base", "adapter" }));

    private static void Change(string path, string how)
    {
        if (how is "longer" or "shorter")
        {
            using var file = File.OpenWrite(path);
            file.SetLength(file.Length + (how == "longer" ? 1 : -1));
        }
        else if (how == "touched")
        {
            File.SetLastWriteTimeUtc(path, DateTime.UtcNow.AddMinutes(1));
        }
        else
        {
            File.Delete(path);
            _ = how == "gone" ? null : Directory.CreateDirectory(path);
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
