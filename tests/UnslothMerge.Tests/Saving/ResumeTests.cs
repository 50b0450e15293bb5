namespace UnslothMerge.Tests.Saving;

public sealed class ResumeTests : FileTests
{
    private readonly TinyModel _model;
    private readonly List<string> _notes = [];
    private readonly string _home;
    private WritePlan _plan;

    public ResumeTests()
    {
        Directory.CreateDirectory(Temp["place"]);
        _home = Temp["place/.out.unslothmerge"];
        var tensors = Enumerable.Range(0, 4).Select(i => TinyTensor.Random($"w{i}.weight", [16, 16], i)).ToArray();
        _model = new TinyModel(tensors).WithLora(2, "w0", "w1");
        _plan = TinyModel.WritePlan(_model.Plan(Temp), TensorType.F32, shard: 1100);
        Assert.Equal(4, _plan.Shards.Length);
    }

    [Fact]
    public void A_save_goes_on_with_what_is_finished_and_gives_the_same()
    {
        TinyModel.SaveOn(SystemDisk.Instance, _plan, Temp["place/whole/out"]);
        Interrupt();
        var shards = TinyModel.SaveOn(SystemDisk.Instance, _plan, Temp["place/out"], note: _notes.Add);
        Assert.Contains("2 of 4 shards are taken over", Assert.Single(_notes), StringComparison.Ordinal);
        Assert.Equal(TinyModel.Fingerprint(Temp["place/whole/out"]), TinyModel.Fingerprint(Temp["place/out"]));
        Assert.Equal(["w0.weight", "w1.weight"],
            shards.SelectMany(s => s.Tensors).Where(t => t.Figures.RelativeChange > 0).Select(t => t.Tensor.Name));
        Assert.False(Directory.Exists(_home));
    }

    [Fact]
    public void An_interrupted_save_says_what_it_keeps_and_keeps_no_more()
    {
        var error = Interrupt();
        Assert.Contains("2 of 4 shards are finished and kept", error.Advice, StringComparison.Ordinal);
        Assert.Contains("-Restart", error.Advice, StringComparison.Ordinal);
        Assert.Equal(2, Directory.EnumerateFileSystemEntries(Path.Combine(_home, "model")).Count());
        Assert.False(Directory.Exists(Temp["place/out"]));
    }

    [Fact]
    public void Restart_begins_anew()
    {
        Interrupt();
        TinyModel.SaveOn(SystemDisk.Instance, _plan, Temp["place/out"], restart: true, note: _notes.Add);
        Assert.Contains($"'{_home}' is removed.", Assert.Single(_notes), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("dtype", "format")]
    [InlineData("strength", "tensors")]
    [InlineData("adapter", "adapters")]
    [InlineData("base", "files")]
    public void What_another_save_left_is_removed(string change, string part)
    {
        Interrupt();
        if (change == "dtype")
        {
            _plan = TinyModel.WritePlan(_plan.Merge, TensorType.BF16, shard: 550);
        }
        else if (change == "strength")
        {
            var half = _plan.Merge.Tensors.Select(t => t.WithStrength(0.5));
            _plan = TinyModel.WritePlan(_plan.Merge, TensorType.F32, shard: 1100, tensors: half);
        }
        else
        {
            var path = Temp[change == "base" ? "base/model.safetensors" : "adapter/adapter_model.safetensors"];
            using (var file = File.OpenHandle(path, FileMode.Open, FileAccess.Write))
            {
                RandomAccess.Write(file, [1, 2], RandomAccess.GetLength(file) - 2);
            }

            var plan = TinyModel.Plan(Temp["base"], Temp["adapter"]);
            _plan = TinyModel.WritePlan(plan, TensorType.F32, shard: 1100);
        }

        TinyModel.SaveOn(SystemDisk.Instance, _plan, Temp["place/out"], note: _notes.Add);
        Assert.Contains(part, Assert.Single(_notes), StringComparison.Ordinal);
        Assert.DoesNotContain("taken over", _notes[0], StringComparison.Ordinal);
        AssertWhole();
    }

    [Theory]
    [InlineData(0)]
    [InlineData(700)]
    [InlineData(-1)]
    public void A_shard_that_is_not_as_its_record_says_is_written_again(int at)
    {
        Interrupt();
        using (var file = File.OpenHandle(Path.Combine(_home, "model", _plan.Shards[0].Name), FileMode.Open, FileAccess.ReadWrite))
        {
            var bytes = new byte[1];
            var offset = at < 0 ? RandomAccess.GetLength(file) + at : at;
            RandomAccess.Read(file, bytes, offset);
            RandomAccess.Write(file, [(byte)(bytes[0] ^ 0x10)], offset);
        }

        TinyModel.SaveOn(SystemDisk.Instance, _plan, Temp["place/out"], note: _notes.Add);
        Assert.Contains("1 of 4 shards are taken over", Assert.Single(_notes), StringComparison.Ordinal);
        AssertWhole();
    }

    [Theory]
    [InlineData("fingerprint.json", "{")]
    [InlineData("fingerprint.json", "")]
    [InlineData("shards/model-00001-of-00004.safetensors.json", "")]
    [InlineData("fingerprint.json", "5")]
    [InlineData("fingerprint.json", "null")]
    [InlineData("fingerprint.json", """{"version": 5}""")]
    [InlineData("fingerprint.json", """{"version": null}""")]
    [InlineData("fingerprint.json", "\uD800")]
    [InlineData("shards/model-00001-of-00004.safetensors.json", "[1]")]
    [InlineData("shards/model-00001-of-00004.safetensors.json", "null")]
    [InlineData("shards/model-00001-of-00004.safetensors.json", "\uD800")]
    public void A_damaged_journal_is_no_reason_to_fail(string file, string text)
    {
        Interrupt();
        File.WriteAllText(Path.Combine(_home, file), text, Encoding.Latin1);
        TinyModel.SaveOn(SystemDisk.Instance, _plan, Temp["place/out"]);
        AssertWhole();
    }

    [Theory]
    [InlineData("fingerprint", "5")]
    [InlineData("fingerprint", "null")]
    [InlineData("bytes", "1.5")]
    [InlineData("bytes", "1e400")]
    [InlineData("bytes", "-1")]
    [InlineData("crc64", "5")]
    [InlineData("crc64", "\"xyz\"")]
    [InlineData("crc64", "\"0123456789abcdef0\"")]
    [InlineData("cloned", "null")]
    [InlineData("cloned", "-1")]
    [InlineData("cloned", "1000000000000")]
    [InlineData("tensors", "null")]
    [InlineData("tensors", "[]")]
    [InlineData("tensors", "{}")]
    [InlineData("tensors", """{"w0.weight": null}""")]
    [InlineData("tensors", """{"w0.weight": []}""")]
    [InlineData("tensors", """{"w0.weight": ["x", null, "Copy", "F32", 1, []]}""")]
    [InlineData("tensors", """{"w0.weight": [null, null, 1, 2, "x", [0.5]]}""")]
    [InlineData("tensors", """{"w0.weight": [0, 0, "a", "b", 1, []], "w0.weight": [0, 0, "a", "b", 1, []]}""")]
    [InlineData("tensors", """{"../../w": [0, 0, "a", "b", 1, []]}""")]
    [InlineData("tensors", "\"\\ud800\"")]
    public void A_shard_whose_record_is_odd_is_written_again(string key, string value)
    {
        Interrupt();
        var path = Path.Combine(_home, "shards/model-00001-of-00004.safetensors.json");
        var record = JsonNode.Parse(File.ReadAllText(path))!.AsObject();
        record[key] = "here";
        File.WriteAllText(path, record.ToJsonString().Replace("\"here\"", value, StringComparison.Ordinal));
        TinyModel.SaveOn(SystemDisk.Instance, _plan, Temp["place/out"], note: _notes.Add);
        Assert.Contains("1 of 4 shards are taken over", Assert.Single(_notes), StringComparison.Ordinal);
        AssertWhole();
    }

    [Fact]
    public void A_record_that_was_written_by_half_is_none()
    {
        var path = Path.Combine(_home, "shards/model-00002-of-00004.safetensors.json");
        Interrupt();
        var record = File.ReadAllBytes(path);
        foreach (var length in Enumerable.Range(0, record.Length))
        {
            Assert.Null(ShardRecord.Read("x", Encoding.UTF8.GetString(record, 0, length)));
        }

        Assert.NotNull(ShardRecord.Read("x", Encoding.UTF8.GetString(record)));
    }

    [Theory]
    [InlineData("""{"old": ["../../x"], "new": []}""", "'../../x' is no name")]
    [InlineData("""{"old": ["/etc/passwd"], "new": []}""", "is no name")]
    [InlineData("""{"old": [".."], "new": []}""", "is no name")]
    [InlineData("""{"old": [5], "new": []}""", "cannot be read")]
    [InlineData("""{"old": [null], "new": []}""", "is no name")]
    [InlineData("""{"old": 5, "new": []}""", "cannot be read")]
    [InlineData("""{"old": [], "new": {}}""", "cannot be read")]
    [InlineData("5", "it is no object")]
    [InlineData("""{"old": [""", "cannot be read")]
    [InlineData("\u00FF", "not UTF-8")]
    public void An_odd_note_of_moves_moves_nothing(string note, string said)
    {
        Interrupt();
        TinyModel.SaveOn(SystemDisk.Instance, _plan, Temp["place/whole/out"]);
        Directory.Move(Temp["place/whole/out"], Temp["place/out"]);
        File.WriteAllText(Path.Combine(_home, "swap.json"), note, Encoding.Latin1);
        var before = TinyModel.Fingerprint(Temp.Path, "lock");
        Errors.Expect(MergeError.InvalidDestination,
            () => TinyModel.SaveOn(SystemDisk.Instance, _plan, Temp["place/out"], force: true), "swap.json", said);
        Assert.Equal(before, TinyModel.Fingerprint(Temp.Path, "lock"));
    }

    [Fact]
    public void A_note_of_files_that_are_nowhere_moves_nothing()
    {
        Interrupt();
        Directory.CreateDirectory(Temp["place/out"]);
        File.WriteAllText(Path.Combine(_home, "swap.json"), """{"old": ["x"], "new": ["y"]}""");
        TinyModel.SaveOn(SystemDisk.Instance, _plan, Temp["place/out"], force: true);
        AssertWhole();
    }

    [Fact]
    public void Two_saves_to_one_place_do_not_meet()
    {
        var destination = Destination.Check(Temp["place/out"], [], force: false);
        using (StagingDirectory.Create(destination, SystemDisk.Instance))
        {
            Errors.Expect(
                MergeError.InvalidDestination, () => TinyModel.SaveOn(SystemDisk.Instance, _plan, Temp["place/out"]), "under way");
        }

        TinyModel.SaveOn(SystemDisk.Instance, _plan, Temp["place/out"]);
    }

    [Fact]
    public void A_link_in_the_place_of_the_staging_directory_is_not_followed()
    {
        Directory.CreateDirectory(Temp["elsewhere"]);
        Directory.CreateSymbolicLink(_home, Temp["elsewhere"]);
        Errors.Expect(MergeError.WriteFailed, () => TinyModel.SaveOn(SystemDisk.Instance, _plan, Temp["place/out"]), "is a link");
        Assert.Empty(Directory.EnumerateFileSystemEntries(Temp["elsewhere"]));
    }

    // The same as if nothing had come between.
    private void AssertWhole()
    {
        TinyModel.SaveOn(SystemDisk.Instance, _plan, Temp["place/whole/out"]);
        Assert.Equal(TinyModel.Fingerprint(Temp["place/whole/out"]), TinyModel.Fingerprint(Temp["place/out"]));
    }

    // Two shards are finished, and the disk is full.
    private MergeException Interrupt()
    {
        var error = Assert.Throws<MergeException>(() => TinyModel.SaveOn(new FullDisk(_home, "model-00003"), _plan, Temp["place/out"]));
        Assert.Equal(MergeError.WriteFailed, error.Error);
        return error;
    }

    private sealed class FullDisk(string home, string file) : Crashes.DelegatingDisk
    {
        protected override void Before(Crashes.DiskCall call)
        {
            if (call is Crashes.DiskCall.Write { At: > 0 } write && write.Path.Contains(file, StringComparison.Ordinal))
            {
                // Pieces are in order, but the shard before may still be in the finisher's hands.
                while (!File.Exists(Path.Combine(home, "shards", "model-00002-of-00004.safetensors.json")))
                {
                    Thread.Sleep(1);
                }

                throw new IOException("No space left on device");
            }
        }
    }
}
