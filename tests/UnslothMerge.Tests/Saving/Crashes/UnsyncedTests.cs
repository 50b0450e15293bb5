namespace UnslothMerge.Tests.Saving.Crashes;

/// <summary>Loses the power after a save that did not wait for the disk: the names are there, and what they hold is not.</summary>
public sealed class UnsyncedTests : FileTests
{
    private readonly string _place;
    private readonly string _out;
    private readonly MergePlan _merge;
    private readonly WritePlan _plan;
    private readonly WritePlan _old;
    private readonly List<string> _notes = [];

    public UnsyncedTests()
    {
        _place = Directory.CreateDirectory(Temp["place"]).FullName;
        _out = Path.Combine(_place, "out");
        var model = new TinyModel(TinyTensor.Random("w0.weight", [8, 8], 0), TinyTensor.Random("w1.weight", [8, 8], 1)).WithLora(2, "w0");
        _merge = model.Plan(Temp);
        File.WriteAllText(Temp["base/LICENSE"], "All of it.");
        File.WriteAllText(Temp["base/README.md"], "---\nlicense: mit\n---\n# Base\n");
        File.WriteAllText(Temp["base/modules.json"], """[{"path": "1_Pooling"}]""");
        Directory.CreateDirectory(Temp["base/1_Pooling"]);
        File.WriteAllText(Temp["base/1_Pooling/config.json"], "{}");
        _plan = TinyModel.WritePlan(_merge, TensorType.F32, shard: 300);
        _old = TinyModel.WritePlan(TinyModel.Plan(Temp["base"]), TensorType.F32);
    }

    [Theory]
    [InlineData(Unflushed.Empty, true)]
    [InlineData(Unflushed.Zeros, true)]
    [InlineData(Unflushed.Half, true)]
    [InlineData(Unflushed.Empty, false)]
    [InlineData(Unflushed.Zeros, false)]
    public void What_was_lost_is_named_and_the_next_save_replaces_it(Unflushed unflushed, bool exchanges)
    {
        var lost = 0;
        foreach (var (calls, state) in Recorded(exchanges).States(unflushed))
        {
            state.WriteTo(_place);
            if (state.Find("out/model-00001-of-00002.safetensors") is null)
            {
                continue;
            }

            lost++;
            var check = Assert.Single(Verify(), v => v.Check == "OnDisk");
            Assert.False(check.Passed);
            Assert.Contains("merge.json", check.Detail, StringComparison.Ordinal);
            _notes.Clear();
            TinyModel.SaveOn(new QuickDisk { Exchanges = exchanges }, _plan, _out, force: true, note: _notes.Add);

            // While names are half moved the previous model comes back first.
            Assert.True(state.Find(".out.unslothmerge/swap.json") is not null
                || _notes.Exists(n => n.Contains("loss of power", StringComparison.Ordinal)));
            Assert.All(Verify(), v => Assert.True(v.Passed, $"{v.Check} after {calls} calls: {v.Detail}"));
            Assert.DoesNotContain(Verify(), v => v.Check == "OnDisk");
        }

        Assert.True(lost > 0);
    }

    [Fact]
    public void Each_file_that_is_lost_is_named()
    {
        TinyModel.SaveOn(new QuickDisk(), _plan, _out, sync: false);
        Assert.True(Assert.Single(Verify(), v => v.Check == "OnDisk").Passed);
        var start = LostPower.Tree.Of(_place);
        foreach (var file in ModelFiles.All(_out))
        {
            var path = Path.Combine(_out, file);
            foreach (var (bytes, said) in new[] { (Array.Empty<byte>(), "is empty"), (new byte[new FileInfo(path).Length], "holds zeros") })
            {
                File.WriteAllBytes(path, bytes);
                var check = Assert.Single(Verify(), v => v.Check == "OnDisk");
                Assert.Equal((false, $"{file} {said}"), (check.Passed, check.Detail));
                start.WriteTo(_place);
            }
        }

        using (var file = File.OpenWrite(Path.Combine(_out, "config.json")))
        {
            file.SetLength(10);
        }

        Assert.Contains("config.json has 10 of ", Assert.Single(Verify(), v => v.Check == "OnDisk").Detail, StringComparison.Ordinal);
        start.WriteTo(_place);
        File.Delete(Path.Combine(_out, "LICENSE"));
        Assert.Equal("LICENSE is missing", Assert.Single(Verify(), v => v.Check == "OnDisk").Detail);
    }

    [Fact]
    public void Its_author_may_shorten_the_card_and_a_saved_model_may_be_the_base_of_another()
    {
        TinyModel.SaveOn(new QuickDisk(), _plan, _out, sync: false);
        File.WriteAllText(Path.Combine(_out, "README.md"), "Short.");
        Assert.True(Assert.Single(Verify(), v => v.Check == "OnDisk").Passed);
        var again = TinyModel.WritePlan(TinyModel.Plan(_out), TensorType.F32);
        TinyModel.SaveOn(new QuickDisk(), again, Temp["again"]);
        Assert.DoesNotContain("unsynced", File.ReadAllText(Temp["again/merge.json"]), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("5")]
    [InlineData("""{"../../base/LICENSE": 1000, "/etc/passwd": 1, "config.json": "long", "LICENSE": -1, "x": 1e400}""")]
    [InlineData("""{"config.json": [5]}""")]
    public void An_odd_note_names_nothing(string note)
    {
        TinyModel.SaveOn(new QuickDisk(), _plan, _out);
        var path = Path.Combine(_out, "merge.json");
        File.WriteAllText(path, $$"""{"unsynced": {{note}}, {{File.ReadAllText(path).TrimStart()[1..]}}""");
        Assert.DoesNotContain(Verify(), v => v is { Check: "OnDisk", Passed: false });
    }

    private LostPower Recorded(bool exchanges)
    {
        TinyModel.SaveOn(new QuickDisk(), _old, _out);
        var start = LostPower.Tree.Of(_place);
        var disk = new RecordingDisk { Exchanges = exchanges };
        TinyModel.SaveOn(disk, _plan, _out, force: true, sync: false);
        return new LostPower(_place, disk.Calls, start);
    }

    private IReadOnlyList<VerificationResult> Verify() => ModelVerifier.Verify(_merge, _merge.Tensors, _out,
        new VerificationOptions(Full: false, Workers: 1), null, TestContext.Current.CancellationToken);
}
