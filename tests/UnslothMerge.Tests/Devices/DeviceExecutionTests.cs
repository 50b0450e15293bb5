namespace UnslothMerge.Tests.Devices;

public sealed class DeviceExecutionTests : FileTests
{
    [Theory]
    [InlineData(long.MaxValue, 1_000_000_000, long.MaxValue)]
    [InlineData(5000, 1_000_000_000, long.MaxValue)]
    [InlineData(900, 1_000_000_000, long.MaxValue)]
    [InlineData(long.MaxValue, 400_000, long.MaxValue)]
    [InlineData(long.MaxValue, 1_000_000_000, 1)]
    [InlineData(long.MaxValue, 400_000, long.MaxValue, 1)]
    [InlineData(1800, 400_000, long.MaxValue)]
    public void Every_row_goes_through_the_device(long capacity, long limit, long hostLimit, int workers = int.MaxValue)
    {
        var plan = Plan();
        using var device = new FakeDevice(capacity, workers);
        var shards = Save(plan, device, limit, hostLimit);
        Assert.Equal(0, device.Open);
        Assert.True(capacity == long.MaxValue ? device.Batches >= 2 : device.Batches >= 2 * 700 * 900 / capacity,
            $"{device.Batches} batches");

        using var files = new InputFiles();
        var (before, after) = (Checkpoint.Open(Temp["base"]), Checkpoint.Open(Temp["out"]));
        foreach (var tensor in before.Tensors)
        {
            var added = tensor.Name == "copied.weight" ? 0f : 1f;
            Assert.Equal(files.ReadAll<float>(tensor).Select(v => v + added), files.ReadAll<float>(after.Find(tensor.Name)!));
        }

        var m = shards[0].Tensors.Single(t => t.Tensor.Name == "m.weight");
        var norm = Math.Sqrt(files.ReadAll<float>(before.Find("m.weight")!).Sum(v => (double)v * v));
        Assert.Equal(Math.Sqrt(700 * 900) / norm, m.Figures.RelativeChange!.Value, 1e-6);
        Assert.Null(shards[0].Tensors.Single(t => t.Tensor.Name == "copied.weight").Figures.RelativeChange);
    }

    [Fact]
    public void A_device_that_cannot_hold_one_row_is_an_error()
    {
        using var device = new FakeDevice(899);
        Errors.Expect(MergeError.DoesNotFit, () => Save(Plan(), device), "1 row of");
        Assert.Equal(0, device.Open);
        Assert.False(Directory.Exists(Temp["out"]));
    }

    [Fact]
    public void A_device_without_room_for_a_lane_is_an_error()
    {
        using var device = new FakeDevice(long.MaxValue, mostWorkers: 0);
        Errors.Expect(MergeError.DoesNotFit, () => Save(Plan(), device), "fake has too little memory for the merge, with 1.00 GB free");
        Assert.False(Directory.Exists(Temp["out"]));
    }

    [Fact]
    public void A_plan_counts_what_lanes_take()
    {
        var (plan, overhead) = (Plan(), new DeviceOverhead(10_000_000, 5_000_000));
        Assert.Equal(0, DevicePlan.For(plan, 15_000_000, 8, overhead).Count);
        foreach (var (limit, workers) in new[] { (16_000_000L, 1), (60_000_000, 2), (1_000_000_000, 8) })
        {
            var device = DevicePlan.For(plan, limit, 8, overhead);
            Assert.Equal((2, workers), (device.Count, device.Workers));
            Assert.InRange(device.DeviceBytes, 10_000_000 + (workers * 5_000_000L), limit);
        }
    }

    [Fact]
    public void A_plan_keeps_to_its_memory()
    {
        var plan = Plan();
        foreach (var limit in new[] { 200_000L, 1_000_000, 20_000_000, 1_000_000_000 })
        {
            var device = DevicePlan.For(plan, limit, 8);
            Assert.Equal(2, device.Count);
            Assert.InRange(device.DeviceBytes, 1, limit);
        }

        var none = DevicePlan.For(plan, 1000, 8);
        Assert.Equal(0, none.Count);
        Assert.Equal([new("too little device memory", 2)], none.Rejected);
        Assert.Equal((0, 0L), (none.Workers, none.DeviceBytes));
    }

    [Fact]
    public void What_a_device_cannot_do_stays_with_the_cores()
    {
        Assert.All(new[] { ("q-fp8-channel", "FP8 base"), ("dora-conv1d", "DoRA by column delta"), ("loha", "LoHa delta") }, c =>
        {
            var @case = new Goldens.GoldenCase(c.Item1);
            var left = DevicePlan.For(TinyModel.WritePlan(TinyModel.Plan(@case.Base, @case.Adapters[0].Path)), long.MaxValue, 1).Rejected;
            Assert.Contains(left, l => l.Key == c.Item2);
        });
    }

    [Fact]
    public void The_faster_place_depends_on_the_rank_and_the_bus()
    {
        var elements = 8e9;
        var (little, much) = (Work(16), Work(1024));
        Assert.True(little.CoreSeconds(16, 100e9) < little.DeviceSeconds(16, 25e9));
        Assert.True(much.CoreSeconds(16, 100e9) > much.DeviceSeconds(16, 25e9));
        Assert.True(much.CoreSeconds(16, 100e9) < much.DeviceSeconds(16, 0.5e9));
        Assert.InRange(DeviceCost.MeasureCore(), 1e8, 1e12);

        DeviceCost Work(int rank) => new(2 * rank * elements, (long)(2 * elements), (long)(2 * elements));
    }

    private WritePlan Plan() => TinyModel.WritePlan(
        new TinyModel(TinyTensor.Random("m.weight", [700, 900], 1), TinyTensor.Random("n.weight", [700, 900], 2),
            TinyTensor.Random("copied.weight", [50, 70], 3)).WithLora(3, "m", "n").Plan(Temp), TensorType.F32);

    private IReadOnlyList<SavedShard> Save(WritePlan plan, FakeDevice device, long limit = 1_000_000_000, long hostLimit = long.MaxValue) =>
        TinyModel.Save(plan, Temp["out"], device: new DeviceRun(device, DevicePlan.For(plan, limit, 3)), memory: hostLimit);
}
