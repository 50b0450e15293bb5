using UnslothMerge.Saving.Parts;

namespace UnslothMerge.Tests.Saving.Parts;

public sealed class PartSaverTests : FileTests
{
    private readonly string _home;
    private readonly List<string> _notes = [];

    public PartSaverTests()
    {
        Directory.CreateDirectory(Temp["place"]);
        _home = Temp["place/.out.unslothmerge"];
    }

    [Theory]
    [InlineData("plain", 1)]
    [InlineData("plain", 2)]
    [InlineData("plain", 7)]
    [InlineData("plain", 16)]
    [InlineData("nvfp4a16", 7)]
    [InlineData("nvfp4a16", 3)]
    [InlineData("int8", 5)]
    public void Parts_in_any_order_twice_and_at_once_give_what_one_machine_gives(string method, int parts)
    {
        var plan = PlanOf(method);
        TinyModel.SaveOn(SystemDisk.Instance, plan, Temp["whole/out"]);

        // Each part is saved by two workers that meet each other and all others.
        var random = new Random(parts);
        var numbers = Enumerable.Range(1, parts).Concat(Enumerable.Range(1, parts)).OrderBy(_ => random.Next()).ToArray();
        Parallel.ForEach(numbers, new ParallelOptions { MaxDegreeOfParallelism = 4 }, n => Save(PlanOf(method), n, parts));
        Complete();
        Assert.Equal(TinyModel.Fingerprint(Temp["whole/out"]), TinyModel.Fingerprint(Temp["place/out"]));
        Assert.False(Directory.Exists(_home));
    }

    [Theory]
    [InlineData("{", "cannot be read")]
    [InlineData("null", "cannot be read")]
    [InlineData("""{"method": 5}""", "cannot be read")]
    [InlineData("""{"method": "x", "parts": 1.5, "parameters": 1, "shards": {}}""", "cannot be read")]
    [InlineData("""{"method": "x", "parts": 1, "parameters": 1, "shards": {"a": null}}""", "cannot be read")]
    [InlineData("""{"method": "x", "parts": 1, "parameters": 1, "shards": {"../../a": {"part": 1, "header": 1, "tensors": []}}}""",
        "'../../a' is no name")]
    [InlineData("""{"method": "x", "parts": 1, "parameters": 1, "variant": "../a", "shards": {}}""", "'../a' is no name")]
    [InlineData("\u00FF", "not UTF-8")]
    public void An_odd_plan_is_refused(string text, string said)
    {
        var plan = PlanOf("plain");
        Save(plan, 1, 2);
        File.WriteAllText(Path.Combine(_home, "plan/plan.json"), text, Encoding.Latin1);
        Errors.Expect(MergeError.InvalidDestination, () => Complete(), "plan.json", said);
    }

    [Theory]
    [InlineData("5")]
    [InlineData("""{"a": null}""")]
    [InlineData("\u00FF")]
    [InlineData(null)]
    public void An_odd_fingerprint_of_parts_is_another_one(string? text)
    {
        var plan = PlanOf("plain");
        Save(plan, 1, 2);
        var path = Path.Combine(_home, "plan/fingerprint.json");
        File.Delete(path);
        if (text is not null)
        {
            File.WriteAllText(path, text, Encoding.Latin1);
        }

        Errors.Expect(MergeError.PartsDiffer, () => Save(plan, 2, 2), "its fingerprint, which is damaged");
        Errors.Expect(MergeError.PartsMissing, () => Complete());
    }

    [Fact]
    public void Killed_workers_leave_nothing_that_counts_and_what_they_had_finished()
    {
        // Each call of the disk is the last one of a worker once, and of a completion: what a power loss makes of it is another test's.
        var plan = PlanOf("plain");
        TinyModel.SaveOn(SystemDisk.Instance, plan, Temp["whole/out"]);
        var calls = 0;
        foreach (var part in new[] { 2, 1, 3 })
        {
            for (var left = 0; ; left = left * 3 / 2 + 1)
            {
                var disk = Crashes.FailingDisk.After(left);
                try
                {
                    Save(plan, part, 3, disk);
                    break;
                }
                catch (MergeException e) when (e.IsTransient)
                {
                    Assert.Contains($"of part {part}/3", e.Advice, StringComparison.Ordinal);
                    calls++;
                }
            }
        }

        for (var left = 0; ; left++)
        {
            try
            {
                Complete(Crashes.FailingDisk.After(left));
                break;
            }
            catch (MergeException e) when (e.IsTransient)
            {
                if (Directory.Exists(Temp["place/out"]))
                {
                    Assert.Equal(TinyModel.Fingerprint(Temp["whole/out"]), TinyModel.Fingerprint(Temp["place/out"]));
                }

                calls++;
            }
        }

        Assert.True(calls > 20);
        Assert.Equal(TinyModel.Fingerprint(Temp["whole/out"]), TinyModel.Fingerprint(Temp["place/out"]));
    }

    [Fact]
    public void Clones_of_the_bases_files_are_verified_without_the_base()
    {
        _ = PlanOf("plain");
        TinyModel.SaveOn(SystemDisk.Instance, TinyModel.WritePlan(TinyModel.Plan(Temp["base"]), TensorType.F32, shard: 1100), Temp["many"]);
        var plan = TinyModel.WritePlan(TinyModel.Plan(Temp["many"], Temp["adapter"]), TensorType.F32, shard: 1100);
        TinyModel.SaveOn(SystemDisk.Instance, plan, Temp["whole/out"]);
        Assert.Contains(Save(plan, 1, 2, new Crashes.QuickDisk { Clones = "" }), s => s.Cloned > 0 && s.Cloned < s.Bytes);
        Save(plan, 2, 2);
        Save(plan, 1, 2);
        Assert.Contains("are there already", Assert.Single(_notes), StringComparison.Ordinal);
        Directory.Delete(Temp["many"], recursive: true);
        Complete();
        Assert.Equal(TinyModel.Fingerprint(Temp["whole/out"]), TinyModel.Fingerprint(Temp["place/out"]));
    }

    [Fact]
    public void Shards_that_are_there_are_not_written_again()
    {
        var plan = PlanOf("plain");
        Save(plan, 2, 4);
        var times = Times();
        var again = Save(PlanOf("plain"), 2, 4);
        Assert.Equal(times, Times());
        Assert.Contains("are there already", Assert.Single(_notes), StringComparison.Ordinal);
        Assert.Equal(times.Keys, again.Select(s => s.Path));
        Assert.All(again, s => Assert.NotEmpty(s.Tensors));

        // Another number of parts is another share of the same model.
        Save(plan, 1, 1);
        Complete();

        SortedDictionary<string, DateTime> Times() => new(
            Directory.EnumerateFiles(Path.Combine(_home, "model")).ToDictionary(f => f, File.GetLastWriteTimeUtc), StringComparer.Ordinal);
    }

    [Fact]
    public void What_is_missing_or_damaged_is_told_with_who_owes_it()
    {
        var plan = PlanOf("plain");
        Errors.Expect(MergeError.PathNotFound, () => Complete(), "no parts");
        foreach (var part in new[] { 1, 3, 4 })
        {
            Save(plan, part, 4);
        }

        var error = Errors.Expect(MergeError.PartsMissing, () => Complete(), "(part 2/4)", "2/4 again");
        Assert.True(error.IsTransient);
        Assert.All(error.Details, d => Assert.Contains("part 2/4", d, StringComparison.Ordinal));
        Save(plan, 2, 4);
        var shard = Path.Combine(_home, "model", plan.Shards[^1].Name);
        var bytes = File.ReadAllBytes(shard);
        bytes[^1] ^= 1;
        File.WriteAllBytes(shard, bytes);
        Errors.Expect(MergeError.PartsMissing, () => Complete(), plan.Shards[^1].Name, "4/4 again");
        Save(plan, 4, 4);
        Assert.Equal(plan.Shards.Select(s => s.Name), Complete().Select(s => s.Name));
        Assert.False(Directory.Exists(_home));
    }

    [Theory]
    [InlineData("strength", "strengths and tensors")]
    [InlineData("adapter", "adapters")]
    [InlineData("base", "values of the base")]
    [InlineData("config", "config.json")]
    [InlineData("shards", "format and shards")]
    public void A_worker_that_would_save_another_model_is_refused(string change, string said)
    {
        var plan = PlanOf("plain");
        Save(plan, 1, 4);
        if (change == "strength")
        {
            var half = plan.Merge.Tensors.Select(t => t.WithStrength(0.5));
            plan = TinyModel.WritePlan(plan.Merge, TensorType.F32, shard: 1100, tensors: half);
        }
        else if (change == "shards")
        {
            plan = TinyModel.WritePlan(plan.Merge, TensorType.F32, shard: 3000);
        }
        else if (change == "config")
        {
            File.WriteAllText(Temp["base/config.json"], """{"architectures": ["Tiny"], "model_type": "other"}""");
            plan = Planned();
        }
        else
        {
            var path = Temp[change == "base" ? "base/model.safetensors" : "adapter/adapter_model.safetensors"];
            var bytes = File.ReadAllBytes(path);
            bytes[^2] ^= 1;
            bytes[bytes.Length - 512] ^= 1;
            File.WriteAllBytes(path, bytes);
            plan = Planned();
        }

        var error = Errors.Expect(MergeError.PartsDiffer, () => Save(plan, 2, 4), said, "-Restart");
        Assert.False(error.IsTransient);
        Save(plan, 2, 4, restart: true);
        Save(plan, 1, 1);
        Complete();
    }

    [Fact]
    public void Other_paths_and_times_of_the_same_inputs_make_no_difference()
    {
        Save(PlanOf("plain"), 1, 2);
        Directory.CreateDirectory(Temp["other"]);
        foreach (var name in new[] { "base", "adapter" })
        {
            Directory.CreateDirectory(Temp[$"other/{name}"]);
            foreach (var file in Directory.EnumerateFiles(Temp[name]))
            {
                File.Copy(file, Path.Combine(Temp[$"other/{name}"], Path.GetFileName(file)));
                File.SetLastWriteTimeUtc(Path.Combine(Temp[$"other/{name}"], Path.GetFileName(file)), DateTime.UnixEpoch);
            }
        }

        Save(TinyModel.WritePlan(TinyModel.Plan(Temp["other/base"], Temp["other/adapter"]), TensorType.F32, shard: 1100), 2, 2);
        Complete();
    }

    [Fact]
    public void Parts_and_saves_of_one_machine_do_not_mix()
    {
        var plan = PlanOf("plain");
        Save(plan, 1, 4);
        Errors.Expect(MergeError.InvalidDestination, () => TinyModel.SaveOn(SystemDisk.Instance, plan, Temp["place/out"]),
            "parts of a model", "Complete-MergedModel");
        Save(plan, 2, 4);
        TinyModel.SaveOn(SystemDisk.Instance, plan, Temp["place/out"], restart: true);
        Assert.False(Directory.Exists(_home));

        Assert.Throws<MergeException>(() => TinyModel.SaveOn(Crashes.FailingDisk.After(150), plan, Temp["place/out"], force: true));
        Assert.True(File.Exists(Path.Combine(_home, "fingerprint.json")));
        Errors.Expect(MergeError.InvalidDestination, () => Save(plan, 1, 4, force: true), "without -Part");
        Save(plan, 1, 4, restart: true, force: true);
    }

    [Fact]
    public void A_model_is_replaced_only_by_a_complete_one()
    {
        var plan = PlanOf("plain");
        TinyModel.SaveOn(SystemDisk.Instance, TinyModel.WritePlan(plan.Merge, TensorType.BF16, shard: 1100), Temp["place/out"]);
        Errors.Expect(MergeError.DestinationExists, () => Save(plan, 1, 1), "-Force");
        Save(plan, 1, 2, force: true);
        Errors.Expect(MergeError.PartsMissing, () => Complete(force: true));
        Assert.NotEmpty(Directory.EnumerateFiles(Temp["place/out"]));
        Save(plan, 2, 2, force: true);
        Errors.Expect(MergeError.DestinationExists, () => Complete(), "-Force");
        Complete(force: true);
        Assert.False(Directory.Exists(_home));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_completion_that_was_killed_after_the_model_got_its_name_is_only_tidied_up(bool replaced)
    {
        var plan = PlanOf("plain");
        if (replaced)
        {
            TinyModel.SaveOn(SystemDisk.Instance, TinyModel.WritePlan(plan.Merge, TensorType.BF16, shard: 1100), Temp["place/out"]);
        }

        Save(plan, 1, 1, force: true);
        var disk = new NoUndo(Temp["place/out"]);
        Assert.Throws<MergeException>(() => Complete(disk, force: true));
        Assert.True(Directory.Exists(_home));
        var there = TinyModel.Fingerprint(Temp["place/out"]);
        Assert.Equal(16, Complete().Count);
        Assert.Equal(there, TinyModel.Fingerprint(Temp["place/out"]));
        Assert.False(Directory.Exists(_home));
    }

    [Fact]
    public void A_worker_that_was_killed_here_leaves_no_space_taken()
    {
        var plan = PlanOf("plain");
        Save(plan, 1, 4);
        var dead = Path.Combine(_home, "work", $"{Environment.MachineName}-1");
        var elsewhere = Path.Combine(_home, "work", "elsewhere-1");
        foreach (var folder in new[] { dead, elsewhere })
        {
            Directory.CreateDirectory(folder);
            File.WriteAllText(Path.Combine(folder, "lock"), "");
            File.WriteAllText(Path.Combine(folder, "model-00001-of-00016.safetensors"), "half");
        }

        Save(plan, 2, 4);
        Assert.False(Directory.Exists(dead));
        Assert.True(Directory.Exists(elsewhere));
    }

    [Fact]
    public void More_parts_than_shards_are_refused_with_the_most()
    {
        var plan = PlanOf("plain");
        Errors.Expect(MergeError.InvalidOption, () => Save(plan, 1, 17), "at most 16", "-MaxShardSize");
        Assert.False(Directory.Exists(_home));
    }

    private WritePlan PlanOf(string method)
    {
        if (method != "plain")
        {
            var plan = MergePlanner.Plan(ModelDirectory.Open(Fixtures.Base("llama64")), []);
            return TinyModel.WritePlan(plan, quantization: ExportMethods.Parse(method, null, false), shard: 600);
        }

        if (!Directory.Exists(Temp["base"]))
        {
            var tensors = Enumerable.Range(0, 16).Select(i => TinyTensor.Random($"w{i:00}.weight", [16, 16], i)).ToArray();
            new TinyModel(tensors).WithLora(2, "w00", "w07", "w15").Write(Temp);
        }

        return Planned();
    }

    private WritePlan Planned() => TinyModel.WritePlan(TinyModel.Plan(Temp["base"], Temp["adapter"]), TensorType.F32, shard: 1100);

    private IReadOnlyList<SavedShard> Save(
        WritePlan plan, int number, int count, IDisk? disk = null, bool restart = false, bool force = false)
    {
        var destination = Destination.Check(Temp["place/out"], [("base", plan.Merge.Base.Path)], force);
        var run = new RunOptions(ExecutionPlan.For(plan, new MemoryLimit(long.MaxValue), workers: 1), Sync: disk is not null)
        {
            Disk = disk ?? SystemDisk.Instance,
            Restart = restart,
            Note = w => _notes.Add(w.Text),
        };
        var extras = ModelExtras.For(plan, destination, "merged_16bit", new ExtrasOptions());
        return new PartOnDisk(extras, destination, "merged_16bit", new Part(number, count), run).Save(null, CancellationToken.None);
    }

    private IReadOnlyList<ShardRecord> Complete(IDisk? disk = null, bool force = false) =>
        new ModelCompletion(SavedParts.Find(Temp["place/out"]), force)
            .Complete(disk ?? new Crashes.QuickDisk(), sync: true, workers: 2, null, CancellationToken.None);

    /// <summary>A disk that is gone once the model has its name.</summary>
    private sealed class NoUndo(string path) : Crashes.DelegatingDisk
    {
        private bool _isThere;

        protected override void Before(Crashes.DiskCall call)
        {
            if (_isThere)
            {
                throw new IOException("The disk is gone.");
            }

            _isThere = call is Crashes.DiskCall.Move move && move.To == path || call is Crashes.DiskCall.Exchange;
        }
    }
}
