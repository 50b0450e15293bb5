using UnslothMerge.Tests.Saving.Crashes;

namespace UnslothMerge.Tests.Saving;

/// <summary>Shards that begin as clones of the base's files, on a disk that copies instead.</summary>
public sealed class CloneTests : FileTests
{
    private readonly string _place;
    private readonly string _base;

    public CloneTests()
    {
        _place = Directory.CreateDirectory(Temp["place"]).FullName;
        _base = Temp["four"];
        var tensors = Enumerable.Range(0, 8).Select(i => TinyTensor.Random($"w{i}.weight", [16, 16], i)).ToArray();
        new TinyModel(tensors).WithLora(2, "w0", "w3").Write(Temp);
        TinyModel.SaveOn(new QuickDisk(), TinyModel.WritePlan(TinyModel.Plan(Temp["base"]), TensorType.F32, shard: 2100), _base);
    }

    [Theory]
    [InlineData(2100L)]
    [InlineData(null)]
    public void Clones_give_the_same_bytes_and_only_what_changes_is_written(long? shard)
    {
        var plan = Plan(shard);
        TinyModel.SaveOn(new QuickDisk(), plan, Temp["written/out"]);
        var disk = new RecordingDisk { Clones = "" };
        var shards = TinyModel.SaveOn(disk, plan, Temp["place/out"], workers: 2);

        Assert.Equal(TinyModel.Fingerprint(Temp["written/out"]), TinyModel.Fingerprint(Temp["place/out"]));
        Assert.Equal(4, disk.Calls.OfType<DiskCall.CloneFile>().Count());
        var written = disk.Calls.OfType<DiskCall.Write>().Where(w => w.Path.EndsWith(".safetensors", StringComparison.Ordinal)).ToList();
        Assert.Equal(2 * 1024, written.Sum(w => w.Bytes.Length));
        Assert.Equal([1024, 1024, 0, 0], shards.Select(s => s.Bytes - s.Cloned));
        Assert.All(shards, s => Assert.Null(s.Obstacle));
    }

    [Fact]
    public void A_shard_says_why_it_is_no_clone()
    {
        Assert.All(TinyModel.SaveOn(new QuickDisk(), Plan(null), Temp["place/out"]), s => Assert.Contains("no clones", s.Obstacle!));
        var half = TinyModel.SaveOn(
            new QuickDisk { Clones = "" }, TinyModel.WritePlan(Plan(null).Merge, TensorType.BF16, shard: null), Temp["place/half"]);
        Assert.All(half, s => Assert.Contains("header", s.Obstacle!, StringComparison.Ordinal));
        Assert.All(half, s => Assert.Equal(0, s.Cloned));
    }

    [Fact]
    public void A_base_keeps_its_shards_and_headers_however_they_were_written()
    {
        // As no writer of today orders them, with metadata and padding of its own.
        foreach (var file in Directory.GetFiles(_base, "*.safetensors"))
        {
            var header = SafetensorsFile.Open(file);
            var json = new JsonObject(header.Tensors.Reverse().Select(t => KeyValuePair.Create(t.Name, (JsonNode?)new JsonObject
            {
                ["dtype"] = "F32", ["shape"] = new JsonArray(16, 16),
                ["data_offsets"] = new JsonArray(t.Offset - header.Tensors[0].Offset, t.Offset - header.Tensors[0].Offset + t.Length),
            })).Append(KeyValuePair.Create("__metadata__", (JsonNode?)new JsonObject { ["made"] = "by hand" })));
            var text = Encoding.UTF8.GetBytes(json.ToJsonString() + "     ");
            var data = File.ReadAllBytes(file).Skip((int)header.Tensors[0].Offset);
            File.WriteAllBytes(file, [.. BitConverter.GetBytes((long)text.Length), .. text, .. data]);
        }

        var shards = TinyModel.SaveOn(new QuickDisk { Clones = "" }, Plan(null), Temp["place/out"]);
        Assert.Equal(4, shards.Count(s => s.Cloned > 0));
        TinyModel.SaveOn(new QuickDisk(), Plan(null), Temp["written/out"]);
        Assert.Equal(TinyModel.Fingerprint(Temp["written/out"]), TinyModel.Fingerprint(Temp["place/out"]));
        Assert.Equal(
            Directory.GetFiles(_base, "*.safetensors").Order().Select(f => SafetensorsFile.Open(f).Metadata["made"]),
            shards.Select(s => SafetensorsFile.Open(s.Path).Metadata["made"]));
        Assert.All(TinyModel.SaveOn(new QuickDisk { Clones = "" }, Plan(2100), Temp["place/new"]), s => Assert.Equal(0, s.Cloned));
    }

    [Theory]
    [InlineData("none", 3)]
    [InlineData("changed", 2)]
    [InlineData("kept", 2)]
    [InlineData("header", 2)]
    public void A_save_goes_on_with_clones_that_are_as_their_record_and_the_base_say(string damaged, int kept)
    {
        var plan = Plan(null);
        TinyModel.SaveOn(new QuickDisk(), plan, Temp["place/whole/out"]);
        Assert.Throws<MergeException>(() => TinyModel.SaveOn(new StoppingDisk { Clones = "" }, plan, Temp["place/out"]));
        if (damaged != "none")
        {
            // The first shard holds w0, which changes, and w1, which does not.
            var layout = plan.Shards[0].Layout;
            using var file = File.OpenHandle(
                Path.Combine(_place, ".out.unslothmerge", "model", plan.Shards[0].Name), FileMode.Open, FileAccess.Write);
            var at = damaged == "header" ? 20 : layout.OffsetOf(damaged == "changed" ? "w0.weight" : "w1.weight") + 5;
            RandomAccess.Write(file, [0xA5], at);
        }

        var notes = new List<string>();
        var disk = new RecordingDisk { Clones = "" };
        TinyModel.SaveOn(disk, plan, Temp["place/out"], note: notes.Add);
        Assert.Contains($"{kept} of 4 shards are taken over", Assert.Single(notes), StringComparison.Ordinal);
        Assert.Equal(4 - kept, disk.Calls.OfType<DiskCall.CloneFile>().Count());
        Assert.Equal(TinyModel.Fingerprint(Temp["place/whole/out"]), TinyModel.Fingerprint(Temp["place/out"]));
    }

    [Fact]
    public void A_base_that_has_changed_since_it_was_planned_is_not_cloned()
    {
        var plan = Plan(null);
        File.AppendAllText(Path.Combine(_base, plan.Shards[1].Name), " ");
        var disk = new RecordingDisk { Clones = "" };
        Errors.Expect(MergeError.FileChanged, () => TinyModel.SaveOn(disk, plan, Temp["place/out"]));
        Assert.DoesNotContain(
            disk.Calls.OfType<DiskCall.CloneFile>(), c => c.Source.EndsWith(plan.Shards[1].Name, StringComparison.Ordinal));
        Assert.Empty(Directory.EnumerateFileSystemEntries(_place));
    }

    private WritePlan Plan(long? shard) =>
        TinyModel.WritePlan(TinyModel.Plan(_base, Temp["adapter"]), TensorType.F32, shard: shard);

    // Fails before the second of the shards that change is noted: those that do not are noted first.
    private sealed class StoppingDisk : DelegatingDisk
    {
        protected override void Before(DiskCall call)
        {
            if (call is DiskCall.Move { To: var to } && to.EndsWith("-00002-of-00004.safetensors.json", StringComparison.Ordinal))
            {
                throw new IOException("No more.");
            }
        }
    }
}
