using UnslothMerge.Hub.Fetching;
using UnslothMerge.Hub.Publishing;
using UnslothMerge.Saving.Parts;
using UnslothMerge.Tests.Hub.StandIn;
using UnslothMerge.Tests.Saving.Crashes;

namespace UnslothMerge.Tests.Hub;

/// <summary>A model that several workers send to the Hub in parts, and one commit makes visible.</summary>
public sealed class PublishedPartsTests : HubTests
{
    private const string Id = "org/out";
    private const int Shards = 9;

    private string Home => Temp["place/.out.unslothmerge"];

    public PublishedPartsTests() => Directory.CreateDirectory(Temp["place"]);

    [Theory]
    [InlineData("plain", 3)]
    [InlineData("plain", 1)]
    [InlineData("nvfp4a16", 3)]
    [InlineData("int8", 4)]
    public void Parts_in_any_order_twice_and_at_once_are_one_commit_with_the_bytes_of_one_machine(string method, int parts)
    {
        var plan = PlanOf(method);
        TinyModel.Save(plan, Temp["whole/out"]);
        var random = new Random(parts);
        var numbers = Enumerable.Range(1, parts).Concat(Enumerable.Range(1, parts)).OrderBy(_ => random.Next()).ToArray();
        Parallel.ForEach(numbers, new ParallelOptions { MaxDegreeOfParallelism = 4 }, n => Send(PlanOf(method), n, parts));

        // Nobody sees anything of it yet, and no weights are on the disk that is shared.
        Assert.Equal([".gitattributes"], Server.Repositories[Id].Head.Files.Keys);
        Assert.Empty(Directory.EnumerateFiles(Temp["place"], "*.safetensors", SearchOption.AllDirectories));
        var result = Complete(message: "Together");
        Assert.Equal(["initial commit", "Together"], Server.Repositories[Id].Commits.Select(c => c.Title));
        Assert.Equal(Server.Repositories[Id].Head.Id, result.Commit);
        AssertPublished();
        Assert.False(Directory.Exists(Home));
    }

    [Fact]
    public void Another_run_of_a_part_sends_nothing_that_is_there()
    {
        var plan = PlanOf("plain");
        var first = Send(plan, 2, 3);
        Assert.All(first, s => Assert.StartsWith($"{Server.Endpoint}{Id}/resolve/main/model-", s.Path, StringComparison.Ordinal));
        Server.ForgetLog();
        var notes = new List<string>();
        var again = Send(plan, 2, 3, notes: notes);
        Assert.Equal(first.Select(s => (s.Path, s.Bytes)), again.Select(s => (s.Path, s.Bytes)));
        Assert.Contains("3 of 3 shards of part 2/3 are there already", Assert.Single(notes), StringComparison.Ordinal);
        Assert.DoesNotContain(Server.Log, l => l.StartsWith("PUT", StringComparison.Ordinal));

        // Where everything is sent again, the Hub has it.
        Send(plan, 2, 3, restart: true);
        Assert.DoesNotContain(Server.Log, l => l.StartsWith("PUT", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("disk")]
    [InlineData("network")]
    public void A_part_that_is_killed_goes_on_with_what_is_missing(string what)
    {
        var plan = PlanOf("plain");
        TinyModel.Save(plan, Temp["whole/out"]);
        Send(plan, 3, 3);
        if (what == "disk")
        {
            var calls = 0;
            for (var left = 0; ; left = left * 3 / 2 + 1)
            {
                try
                {
                    Send(plan, 1, 3, disk: FailingDisk.After(left));
                    break;
                }
                catch (MergeException e) when (e.IsTransient)
                {
                    calls++;
                }
            }

            Assert.True(calls > 5);
        }
        else
        {
            Server.ForgetLog();
            Server.Fail(new HubFault(FaultKind.Status, "PUT", "/objects/", Skip: 2, Times: 99) { Status = 403, Message = "Storage limit" });
            Errors.Expect(MergeError.HubRefused, () => Send(plan, 1, 3), "storage");
            Server.Forgive();
            Send(plan, 1, 3);
            Assert.Equal(3, Server.Log.Where(l => l.StartsWith("PUT", StringComparison.Ordinal)).Distinct().Count());
        }

        var error = Errors.Expect(MergeError.PartsMissing, () => Complete(), "not sent", "(part 2/3)", "2/3 again");
        Assert.True(error.IsTransient);
        Assert.Single(Server.Repositories[Id].Commits);
        Send(plan, 2, 3);
        Complete();
        AssertPublished();
        Assert.Equal(2, Server.Repositories[Id].Commits.Count);
    }

    [Fact]
    public void What_the_Hub_has_forgotten_is_told_with_who_owes_it()
    {
        var plan = PlanOf("plain");
        TinyModel.Save(plan, Temp["whole/out"]);
        SendAll(plan);
        var lost = File.ReadAllText(Path.Combine(Home, "shards", plan.Shards[4].Name + ".json"));
        Assert.True(Server.Objects.Objects.Remove((string)JsonNode.Parse(lost)!["sha256"]!));
        var error = Errors.Expect(MergeError.PartsMissing, () => Complete(), plan.Shards[4].Name, "storage of 'org/out'", "2/3 again");
        Assert.Equal([$"{plan.Shards[4].Name} (part 2/3)"], error.Details);
        Assert.Single(Server.Repositories[Id].Commits);
        Server.ForgetLog();
        Send(plan, 2, 3);
        Assert.Single(Server.Log, l => l.StartsWith("PUT", StringComparison.Ordinal));
        Complete();
        AssertPublished();
    }

    [Fact]
    public void A_completion_that_was_killed_after_the_commit_does_not_commit_again()
    {
        var plan = PlanOf("plain");
        TinyModel.Save(plan, Temp["whole/out"]);
        SendAll(plan);
        Server.Fail(new HubFault(FaultKind.LostAnswer, "POST", "/commit/"));
        var first = Complete(disk: FailingDisk.After(0));
        Assert.True(first.IsNew);
        Assert.True(Directory.Exists(Home));
        var second = Complete();
        Assert.Equal((false, first.Commit), (second.IsNew, second.Commit));
        Assert.Equal(2, Server.Repositories[Id].Commits.Count);
        Assert.False(Directory.Exists(Home));
        AssertPublished();
    }

    [Fact]
    public void Nothing_is_committed_to_a_branch_that_moved_and_all_parts_stay()
    {
        var repository = Server.Add(Id, ("model.safetensors", [1, 2]));
        var plan = PlanOf("plain");
        TinyModel.Save(plan, Temp["whole/out"]);
        SendAll(plan);
        HubCommit? theirs = null;
        Errors.Expect(MergeError.HubConflict, () => Complete(planned: () => theirs = Server.Commit(repository, ("notes.txt", [3]))), Id);
        Assert.Equal(theirs, repository.Head);
        var result = Complete();
        Assert.Contains(result.Files, f => f is { Name: "model.safetensors", Outcome: FileOutcome.Deleted });
        AssertPublished();
        Assert.Contains("notes.txt", repository.Head.Files.Keys);
    }

    [Fact]
    public void A_pull_request_is_made_by_who_may_only_read()
    {
        var repository = Server.Add(Id);
        var head = repository.Head;
        var plan = PlanOf("plain");
        TinyModel.Save(plan, Temp["whole/out"]);
        var target = new PublishTarget(Id) { CreatePullRequest = true };
        SendAll(plan, target, HubServer.ReadToken);
        var result = Complete(target, HubServer.ReadToken);
        Assert.Equal($"{Server.Endpoint}{Id}/discussions/1", result.PullRequest);
        Assert.Equal(head, repository.Head);
        AssertPublished("refs/pr/1");
    }

    [Fact]
    public void Parts_of_one_model_go_to_one_repository()
    {
        var plan = PlanOf("plain");
        TinyModel.Save(plan, Temp["whole/out"]);
        TinyModel.Save(plan, Temp["place/out"]);
        Send(plan, 1, 3);
        Errors.Expect(MergeError.PartsDiffer, () => Send(plan, 2, 3, new PublishTarget("org/other")),
            "repository on the Hub ('org/other' here, 'org/out' there)", "-Restart");
        Assert.DoesNotContain("org/other", Server.Repositories.Keys);
        var destination = Destination.Check(Temp["place/out"], [("base", plan.Merge.Base.Path)], force: true);
        Errors.Expect(MergeError.PartsDiffer, () => new PartOnDisk(Extras(plan, destination), destination, "merged_16bit", new Part(2, 3),
            Run(plan)).Save(null, Stop), "repository on the Hub (only there)");

        // A model at the destination is in nobody's way, and stays.
        SendAll(plan);
        Complete();
        AssertPublished();
        Assert.Equal(TinyModel.Fingerprint(Temp["whole/out"]), TinyModel.Fingerprint(Temp["place/out"]));
    }

    [Fact]
    public void The_Hub_copies_what_the_base_has()
    {
        var plan = PlanOf("plain");
        TinyModel.Save(plan, Temp["whole/out"]);
        var shard = plan.Shards[3].Name;
        var @base = Server.Add("org/base", (shard, File.ReadAllBytes(Temp[$"whole/out/{shard}"])));
        Server.Objects.HideFromBatch.Add(@base.Head.Files[shard].Lfs!);
        SendAll(plan, source: "org/base");
        Assert.Equal(Shards - 1, Server.Log.Count(l => l.StartsWith("PUT", StringComparison.Ordinal)));
        var result = Complete(source: "org/base");
        Assert.Equal(FileOutcome.Copied, result.Files.Single(f => f.Name == shard).Outcome);
        AssertPublished();
    }

    [Fact]
    public void Nothing_of_a_workers_machine_is_published()
    {
        var plan = PlanOf("plain");
        var config = Temp["base/config.json"];
        File.WriteAllText(config, $$"""{"model_type": "tiny", "_name_or_path": "{{Temp["base"]}}"}""");
        SendAll(Planned(Temp["base"]));
        Complete();
        Assert.Equal("tiny", (string?)JsonNode.Parse(Server.Read(Id, "config.json"))!["model_type"]);
        Assert.All(Server.Repositories[Id].Head.Files.Keys.Where(f => !f.EndsWith(".safetensors", StringComparison.Ordinal)), f =>
            Assert.DoesNotContain(Temp.Path, Encoding.UTF8.GetString(Server.Read(Id, f)), StringComparison.Ordinal));
        Assert.Equal(Shards, plan.Shards.Length);
    }

    /// <summary>No worker has the base, the model, or a part of it.</summary>
    [Fact]
    public void A_base_that_is_read_from_the_Hub_is_verified_before_a_shard_is_noted()
    {
        TinyModel.Save(PlanOf("plain"), Temp["whole/out"]);
        AddBase();
        using var client = Client();
        Server.Fail(new HubFault(FaultKind.FlippedBit, "GET", "/objects/", Skip: 1) { At = 2000 });
        var damaged = Streamed(client);
        Errors.Expect(MergeError.HubUnavailable, () => Send(damaged, 1, 3), "model.safetensors", "org/base");
        Assert.Empty(Directory.EnumerateFiles(Path.Combine(Home, "shards")));
        foreach (var part in new[] { 3, 1, 2 })
        {
            using var worker = Client();
            Send(Streamed(worker), part, 3);
        }

        Complete();
        var whole = PlanOf("plain");
        Assert.All(whole.Shards, s => Assert.Equal(File.ReadAllBytes(Temp[$"whole/out/{s.Name}"]), Server.Read(Id, s.Name)));
    }

    [Fact]
    public void Parts_on_the_disk_need_no_base_there_either()
    {
        TinyModel.Save(PlanOf("plain"), Temp["whole/out"]);
        AddBase();
        Directory.Delete(Temp["base"], recursive: true);
        var destination = Destination.Check(Temp["place/out"], [], force: false);
        foreach (var part in new[] { 2, 3, 1 })
        {
            using var worker = Client();
            var plan = Streamed(worker);
            new PartOnDisk(Extras(plan, destination), destination, "merged_16bit", new Part(part, 3), Run(plan)).Save(null, Stop);
        }

        new ModelCompletion(SavedParts.Find(Temp["place/out"]), force: false).Complete(SystemDisk.Instance, false, 2, null, Stop);
        Assert.Equal(Shards, Directory.EnumerateFiles(Temp["place/out"], "*.safetensors").Count());
        Assert.All(Directory.EnumerateFiles(Temp["place/out"], "*.safetensors"), f =>
            Assert.Equal(File.ReadAllBytes(Temp[$"whole/out/{Path.GetFileName(f)}"]), File.ReadAllBytes(f)));
        Assert.Empty(Directory.EnumerateFiles(Temp["home"], "*.safetensors", SearchOption.AllDirectories));
    }

    /// <summary>Whatever fails, and whenever: what is visible is the whole model or nothing of it, and it is committed once.</summary>
    [Fact]
    public void Any_faults_end_with_the_whole_model_or_nothing()
    {
        var plan = PlanOf("plain");
        TinyModel.Save(plan, Temp["whole/out"]);
        var files = Directory.EnumerateFiles(Temp["whole/out"]).Count();
        string[] targets = ["/preupload", "/batch", "PUT", "/uploads", "/verify", "/commit/", "/tree", "/revision", "/create"];
        int[] statuses = [500, 503, 429, 403];
        var fault = Gen.Select(Gen.Enum<FaultKind>(), Gen.Int[0, targets.Length - 1].Select(i => targets[i]), Gen.Int[0, 6], Gen.Int[1, 8],
            Gen.Int[0, statuses.Length - 1].Select(i => statuses[i]));
        Gen.Select(fault.Array[1, 4], Gen.Bool, Gen.Int[0, 200]).Sample((faults, inParts, calls) =>
        {
            using var server = new HubServer();
            server.Objects.PartSize = inParts ? 1000L : long.MaxValue;
            foreach (var (kind, what, skip, times, status) in faults)
            {
                var seen = kind == FaultKind.FlippedBit ? FaultKind.LostAnswer : kind;
                server.Fail(new HubFault(seen, what == "PUT" ? "PUT" : what is "/tree" or "/revision" ? "GET" : "POST",
                    what == "PUT" ? "/" : what, skip, times) { Status = status, At = 100 });
            }

            var name = $"sample-{Guid.NewGuid():N}";
            Directory.CreateDirectory(Temp[name]);
            var place = Path.Combine(Temp[name], "out");
            foreach (var part in new[] { 2, 1, 3, 0 })
            {
                for (var i = 0; ; i++)
                {
                    Assert.InRange(i, 0, 40);
                    try
                    {
                        using var client = new HubClient(server.Settings(Temp[name]), clock: Clock);
                        IDisk disk = i == 0 ? FailingDisk.After(calls) : SystemDisk.Instance;
                        _ = part == 0 ? (object)Complete(client, place, disk) : Send(client, plan, part, 3, place, disk);
                        break;
                    }
                    catch (MergeException e) when (e.IsTransient || e is HubException)
                    {
                        var visible = server.Repositories.GetValueOrDefault(Id)?.Head.Files.Count ?? 1;
                        Assert.Contains(visible, new[] { 1, 1 + files });
                    }
                }
            }

            Assert.Equal(2, server.Repositories[Id].Commits.Count);
            AssertPublished(server, "main");
        }, iter: 12, threads: 1);
    }

    private void AddBase() => Server.Add(
        "org/base", [.. Directory.EnumerateFiles(Temp["base"]).Select(f => (Path.GetFileName(f), File.ReadAllBytes(f)))]);

    private static WritePlan Streamed(HubClient client)
    {
        var model = HubModel.Find(client, new HubReference("org/base"), Stop);
        model.Streams = true;
        var found = HubFetch.Open(model, HubUse.Base, _ => true, null, Stop)!;
        return TinyModel.WritePlan(MergePlanner.Plan(ModelDirectory.Open(found.Directory, found.Remote), []), shard: 600);
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
            TinyModel.Base(Temp["base"], [.. Enumerable.Range(0, Shards).Select(i => TinyTensor.Random($"w{i}", [16, 16], i))]);
        }

        return Planned(Temp["base"]);
    }

    private static WritePlan Planned(string @base) => TinyModel.WritePlan(TinyModel.Plan(@base), shard: 600);

    private static ModelExtras Extras(WritePlan plan, Destination destination) =>
        ModelExtras.For(plan, destination, "merged_16bit", new ExtrasOptions());

    private static RunOptions Run(WritePlan plan, IDisk? disk = null, bool restart = false, List<string>? notes = null) =>
        new(ExecutionPlan.For(plan, new MemoryLimit(long.MaxValue), workers: 1), Sync: disk is not null)
        {
            Disk = disk ?? SystemDisk.Instance, Restart = restart, Note = w => notes?.Add(w.Text),
        };

    private void SendAll(WritePlan plan, PublishTarget? target = null, string? token = HubServer.WriteToken, string? source = null)
    {
        foreach (var part in new[] { 2, 3, 1 })
        {
            Send(plan, part, 3, target, token, source: source);
        }
    }

    private IReadOnlyList<SavedShard> Send(WritePlan plan, int number, int count, PublishTarget? target = null,
        string? token = HubServer.WriteToken, IDisk? disk = null, bool restart = false, string? source = null, List<string>? notes = null)
    {
        using var client = Client(token);
        return Send(client, plan, number, count, Temp["place/out"], disk, target, restart, source, notes);
    }

    private IReadOnlyList<SavedShard> Send(HubClient client, WritePlan plan, int number, int count, string place, IDisk? disk = null,
        PublishTarget? target = null, bool restart = false, string? source = null, List<string>? notes = null)
    {
        using var scratch = new Scratch(Temp.Path, Id);
        var publisher = new Publisher(client, target ?? new PublishTarget(Id));
        var extras = Extras(plan, Destination.Check(scratch.Path, [("base", plan.Merge.Base.Path)], force: false));
        string[] names = [.. plan.Shards.Select(s => s.Name), .. extras.Written().Keys];
        var hub = publisher.Plan(names, [Card(extras)], source, Stop);
        scratch.Open();
        return new PartOnHub(publisher, hub, scratch.Path, null, extras, Destination.Beside(place, [("base", plan.Merge.Base.Path)]),
            "merged_16bit", new Part(number, count), Run(plan, disk, restart, notes)).Save(null, Stop);
    }

    private static UploadFile Card(ModelExtras extras) =>
        UploadFile.Of(Encoding.UTF8.GetBytes(extras.Written()["README.md"]), "README.md");

    private PublishResult Complete(PublishTarget? target = null, string? token = HubServer.WriteToken, IDisk? disk = null,
        string? source = null, string? message = null, Action? planned = null)
    {
        using var client = Client(token);
        return Complete(client, Temp["place/out"], disk, target ?? new PublishTarget(Id) { Message = message }, source, planned);
    }

    private static PublishResult Complete(HubClient client, string place, IDisk? disk = null, PublishTarget? target = null,
        string? source = null, Action? planned = null)
    {
        var parts = SavedParts.Find(place);
        var commit = new PartsCommit(parts);
        var publisher = new Publisher(client, target ?? new PublishTarget(Id));
        var plan = publisher.Plan([.. parts.Names, .. commit.Others.Select(f => f.Name)],
            [.. commit.Others.Where(f => f.Name == "README.md")], source, Stop);
        planned?.Invoke();
        return commit.Run(publisher, plan, disk ?? SystemDisk.Instance, null, Stop);
    }

    private void AssertPublished(string revision = "main") => AssertPublished(Server, revision);

    private void AssertPublished(HubServer server, string revision)
    {
        var files = Directory.EnumerateFiles(Temp["whole/out"]).ToList();
        Assert.All(files, f => Assert.Equal(File.ReadAllBytes(f), server.Read(Id, Path.GetFileName(f), revision)));
    }
}
