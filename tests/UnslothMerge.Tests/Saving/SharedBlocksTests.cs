using UnslothMerge.Tests.PowerShell;
using UnslothMerge.Tests.Saving.Crashes;

namespace UnslothMerge.Tests.Saving;

/// <summary>Models that share blocks with their base, on file systems that can.</summary>
public sealed class SharedBlocksTests : FileTests
{
    private const int Side = 1024;
    private const long TensorBytes = (long)Side * Side * sizeof(float);

    [Theory]
    [InlineData("xfs")]
    [InlineData("btrfs")]
    public void A_model_takes_what_changes_and_neither_reaches_the_other(string kind)
    {
        using var disk = new MountedDisk(kind);
        var plan = Plan(disk["base"]);
        TinyModel.SaveOn(SystemDisk.Instance, plan, Temp["out"]);
        var model = TinyModel.Fingerprint(Temp["out"]);
        var files = plan.Merge.InputFiles.ToList();
        var (before, original) = (disk.Used, TinyModel.Fingerprint(disk["base"]));

        var shards = TinyModel.SaveOn(SystemDisk.Instance, plan, disk["out"], workers: 2);

        Assert.InRange(disk.Used - before, TensorBytes, (long)(1.2 * TensorBytes));
        Assert.Equal([TensorBytes, 0], shards.Select(s => s.Bytes - s.Cloned));
        Assert.Equal(model, TinyModel.Fingerprint(disk["out"]));
        Assert.Equal(original, TinyModel.Fingerprint(disk["base"]));
        Assert.All(files, f => Assert.True(f.IsUnchanged));

        Overwrite(disk["out"], 0x55);
        Assert.Equal(original, TinyModel.Fingerprint(disk["base"]));
        TinyModel.SaveOn(SystemDisk.Instance, plan, disk["out"], force: true);
        Overwrite(disk["base"], 0xAA);
        Assert.Equal(model, TinyModel.Fingerprint(disk["out"]));
        Directory.Delete(disk["base"], recursive: true);
        Assert.Equal(model, TinyModel.Fingerprint(disk["out"]));
    }

    [Theory]
    [InlineData("xfs")]
    public void A_disk_with_room_for_what_changes_is_enough_and_a_full_one_is_an_error_early_or_late(string kind)
    {
        using var disk = new MountedDisk(kind);
        var plan = Plan(disk["base"]);
        var original = TinyModel.Fingerprint(disk["base"]);
        disk.Fill(free: TensorBytes / 2);
        Errors.Expect(MergeError.DiskFull, () => TinyModel.SaveOn(SystemDisk.Instance, plan, disk["out"]), "are free");
        File.Delete(disk["filling"]);

        var filling = new FillingDisk(disk) { Clones = "" };
        Errors.Expect(MergeError.DiskFull, () => TinyModel.SaveOn(filling, plan, disk["out"]));
        Assert.True(filling.IsFull);
        File.Delete(disk["filling"]);
        Assert.False(Directory.Exists(disk["out"]));

        // Less than the model, enough for what changes.
        disk.Fill(free: 6 * TensorBytes);
        TinyModel.SaveOn(SystemDisk.Instance, plan, disk["out"]);
        Assert.Equal(original, TinyModel.Fingerprint(disk["base"]));
    }

    [Theory]
    [InlineData("xfs")]
    public void A_memory_plan_tells_what_will_be_written_and_so_does_a_save(string kind)
    {
        using var disk = new MountedDisk(kind);
        var plan = Plan(disk["base"]);
        var planned = SharedBlocks.Find(plan, disk["not/there/yet"]);
        Assert.Equal(plan.Bytes - TensorBytes, planned.Sum(s => s.OriginBytes));
        Assert.Empty(SharedBlocks.Find(plan, Temp.Path));
        Assert.Equal([disk["base"]], Directory.GetFileSystemEntries(disk.Path));

        var lines = PowerShellProcess.RunWithModule(
            $$"""
            $options = @{ DType = "F32"; MaxShardSize = "base" }
            $plan = Get-MergeMemoryPlan '{{disk["base"]}}' '{{Temp["adapter"]}}' -Destination '{{disk["out"]}}' @options
            $shards = $plan | Merge-LoraModel | Save-MergedModel '{{disk["out"]}}'
            foreach ($size in 'OutputBytes', 'WrittenBytes', 'CopiedBytes', 'ClonedBytes', 'DiskBytes') { $plan.$size }
            ($shards | Measure-Object WrittenBytes -Sum).Sum
            ($shards | Measure-Object ClonedBytes -Sum).Sum
            """);
        long[] expected = [plan.Bytes, TensorBytes, 0, plan.Bytes - TensorBytes, TensorBytes, TensorBytes, plan.Bytes - TensorBytes];
        Assert.Equal(expected, lines.Select(l => long.Parse(l, CultureInfo.InvariantCulture)));
    }

    [Theory]
    [InlineData("xfs")]
    public void A_base_elsewhere_is_copied(string kind)
    {
        using var disk = new MountedDisk(kind);
        var plan = Plan(Temp["there"]);
        var shards = TinyModel.SaveOn(SystemDisk.Instance, plan, disk["out"]);
        Assert.All(shards, s => Assert.Contains("another file system", s.Obstacle!, StringComparison.Ordinal));
        TinyModel.SaveOn(new QuickDisk(), plan, Temp["out"]);
        Assert.Equal(TinyModel.Fingerprint(Temp["out"]), TinyModel.Fingerprint(disk["out"]));
    }

    // A base of two shards; the adapter changes one tensor of the first.
    private WritePlan Plan(string @base)
    {
        var tensors = Enumerable.Range(0, 8).Select(Tensor).ToArray();
        new TinyModel(tensors).WithLora(4, "w2").Write(Temp);
        var split = TinyModel.WritePlan(TinyModel.Plan(Temp["base"]), TensorType.F32, shard: 4 * TensorBytes);
        TinyModel.SaveOn(new QuickDisk(), split, @base);
        return TinyModel.WritePlan(TinyModel.Plan(@base, Temp["adapter"]), TensorType.F32, shard: null);
    }

    private static TinyTensor Tensor(int number)
    {
        var random = new Random(number);
        var values = new float[Side * Side];
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = random.NextSingle() - 0.5f;
        }

        return TinyTensor.F32($"w{number}.weight", [Side, Side], values);
    }

    private static void Overwrite(string directory, byte value)
    {
        foreach (var path in Directory.GetFiles(directory, "*.safetensors"))
        {
            using var file = File.OpenHandle(path, FileMode.Open, FileAccess.Write);
            RandomAccess.Write(file, Enumerable.Repeat(value, (int)new FileInfo(path).Length).ToArray(), 0);
        }
    }

    // Others take the room that was there when the save began.
    private sealed class FillingDisk(MountedDisk disk) : DelegatingDisk
    {
        public bool IsFull { get; private set; }

        protected override void Before(DiskCall call)
        {
            if (!IsFull && call is DiskCall.Write { Path: var path } && path.EndsWith(".safetensors", StringComparison.Ordinal))
            {
                IsFull = true;
                disk.Fill(free: 0);
            }
        }
    }
}
