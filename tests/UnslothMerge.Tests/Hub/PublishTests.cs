using UnslothMerge.Hub.Publishing;
using UnslothMerge.Tests.Hub.StandIn;

namespace UnslothMerge.Tests.Hub;

/// <summary>One commit of a model, against the stand-in: what is sent, what is not, and what a fault leaves.</summary>
public sealed class PublishTests : HubTests
{
    private const string Id = "org/out";

    [Fact]
    public void A_model_is_visible_whole_in_one_commit_of_a_new_repository()
    {
        var model = Model(("tokenizer/empty.txt", 0));
        var result = Publish(model, new PublishTarget(Id) { Private = true, Message = "First", Description = "More" });
        var repository = Server.Repositories[Id];
        Assert.True(repository.IsPrivate);
        Assert.Equal(["initial commit", "First"], repository.Commits.Select(c => c.Title));
        Assert.Equal((repository.Head.Id, true, "More"), (result.Commit, result.IsNew, repository.Head.Description));
        AssertPublished(model);
        Assert.Equal(Length(model, "*.safetensors"), result.BytesSent);
        Assert.All(result.Files, f => Assert.Equal(FileOutcome.Sent, f.Outcome));
    }

    [Fact]
    public void What_the_Hub_has_is_not_sent_and_no_commit_changes_nothing()
    {
        var model = Model();
        Publish(model);
        File.WriteAllText(Path.Combine(model, "config.json"), """{"model_type": "other"}""");
        var second = Publish(model);
        Assert.Equal(0, second.BytesSent);
        Assert.Equal(["config.json"], second.Files.Where(f => f.Outcome == FileOutcome.Sent).Select(f => f.Name));
        var commits = Server.Repositories[Id].Commits.Count;
        var third = Publish(model);
        Assert.False(third.IsNew);
        Assert.Equal((commits, second.Commit), (Server.Repositories[Id].Commits.Count, third.Commit));

        // Another repository, the same storage.
        var elsewhere = Publish(model, new PublishTarget("org/elsewhere"));
        Assert.Equal(0, elsewhere.BytesSent);
        AssertPublished(model, "org/elsewhere");
    }

    [Fact]
    public void Weights_of_an_earlier_model_go_in_the_same_commit_and_nothing_else()
    {
        var repository = Server.Add(Id, Some("model-00001-of-00002.safetensors", 10), Some("model-00002-of-00002.safetensors", 11),
            Some("model.safetensors.index.json", 12), Some("pytorch_model.bin", 13), Some("model.fp16.safetensors", 14),
            Some("notes.txt", 15), Some("onnx/model.safetensors", 16), Some("adapter_config.json", 17));
        var model = Model();
        var plan = Plan(model, new PublishTarget(Id), out _);
        string[] stale = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json",
            "pytorch_model.bin"];
        Assert.Equal(stale, plan.Deleted);
        Assert.Contains("adapter", Assert.Single(plan.Warnings), StringComparison.Ordinal);
        Assert.Equal(2, repository.Commits.Count);
        var result = Publish(model);
        Assert.Equal(3, repository.Commits.Count);
        Assert.Equal(stale, result.Files.Where(f => f.Outcome == FileOutcome.Deleted).Select(f => f.Name));
        Assert.Equal(
            [".gitattributes", "README.md", "adapter_config.json", "config.json", "model.fp16.safetensors", "model.safetensors",
                "notes.txt", "onnx/model.safetensors"],
            repository.Head.Files.Keys);
    }

    [Fact]
    public void Large_files_go_up_in_parts_and_a_failed_publication_goes_on_with_the_missing_ones()
    {
        Server.Objects.PartSize = 100;
        var model = Model();
        Server.Fail(new HubFault(FaultKind.Status, "PUT", "/3?", Times: 6));
        Errors.Expect(MergeError.HubUnavailable, () => Publish(model));
        Assert.DoesNotContain("model.safetensors", Server.Repositories[Id].Head.Files.Keys);

        // A storage that fails is no reason to send again what it took, but for what was on its way when the others stopped.
        Publish(model);
        AssertPublished(model);
        var parts = (int)((Length(model, "*.safetensors") + 99) / 100);
        const int threads = 8;
        Assert.True(parts > 4 * threads);
        Assert.Equal(parts, Server.Objects.Taken.Count);
        Assert.InRange(Server.Objects.Taken.Values.Sum(), parts, parts + threads);
        Assert.Single(Server.Repositories[Id].Commits, c => c.Files.ContainsKey("model.safetensors"));
    }

    [Fact]
    public void A_publication_that_was_cut_off_sends_only_the_missing_parts()
    {
        Server.Objects.PartSize = 100;
        var model = Model();
        var parts = (int)((Length(model, "*.safetensors") + 99) / 100);
        const int threads = 8, before = 30;
        Server.Fail(new HubFault(FaultKind.Status, "PUT", "/uploads", Skip: before) { Status = 401 });
        Errors.Expect(() => Publish(model));
        Assert.DoesNotContain("model.safetensors", Server.Repositories[Id].Head.Files.Keys);
        Publish(model);
        AssertPublished(model);

        // Twice goes at most what was on its way when it was cut off.
        Assert.InRange(Server.Log.Count(l => l.StartsWith("PUT /uploads/", StringComparison.Ordinal)), parts, parts + threads);
        Assert.True(parts > before + threads);
        Assert.Empty(Directory.EnumerateFiles(Temp["home"], "*", SearchOption.AllDirectories));
    }

    [Fact]
    public void A_stopped_publication_leaves_nothing_visible()
    {
        var model = Model();
        using var stop = new CancellationTokenSource();
        Assert.ThrowsAny<OperationCanceledException>(() =>
            Publish(model, progress: new Reporter(_ => stop.Cancel()), cancellation: stop.Token));
        Assert.Equal([".gitattributes"], Server.Repositories[Id].Head.Files.Keys);
    }

    [Theory]
    [InlineData(long.MaxValue)]
    [InlineData(1000)]
    public void A_signed_address_that_is_refused_is_replaced(long partSize)
    {
        Server.Objects.PartSize = partSize;
        var model = Model();
        Server.Fail(new HubFault(FaultKind.Status, "PUT", "/", Skip: 1) { Status = 403, Message = "Request has expired" });
        Server.Fail(new HubFault(FaultKind.Status, "PUT", "/") { Status = 403, Message = "Request has expired" });
        Publish(model);
        AssertPublished(model);
    }

    [Fact]
    public void Faults_on_the_way_are_passed()
    {
        Server.Objects.PartSize = 1000;
        Server.Add(Id);
        Server.Fail(new HubFault(FaultKind.Reset, "PUT", "/uploads") { At = 500 });
        Server.Fail(new HubFault(FaultKind.LostAnswer, "PUT", "/uploads", Skip: 2));
        Server.Fail(new HubFault(FaultKind.Status, "POST", "/batch") { Status = 500 });
        Server.Fail(new HubFault(FaultKind.LostAnswer, "POST", "/uploads"));
        Server.Fail(new HubFault(FaultKind.Truncated, "POST", "/preupload") { At = 5 });
        Server.Fail(new HubFault(FaultKind.Reset, "POST", "/verify"));
        var model = Model();
        Publish(model);
        AssertPublished(model);
    }

    [Theory]
    [InlineData(FaultKind.LostAnswer)]
    [InlineData(FaultKind.Truncated)]
    [InlineData(FaultKind.Reset)]
    [InlineData(FaultKind.Status)]
    public void A_commit_whose_answer_is_lost_is_looked_up_and_made_once(FaultKind kind)
    {
        var repository = Server.Add(Id);
        var before = repository.Commits.Count;
        Server.Fail(new HubFault(kind, "POST", "/commit/") { At = 3 });
        var model = Model();
        var result = Publish(model);
        Assert.Equal((before + 1, repository.Head.Id), (repository.Commits.Count, result.Commit));
        AssertPublished(model);
    }

    [Fact]
    public void Nothing_is_committed_to_a_branch_that_moved()
    {
        var repository = Server.Add(Id, Some("model.safetensors", 10));
        var model = Model();
        var plan = Plan(model, new PublishTarget(Id), out var publisher);
        var theirs = Server.Commit(repository, Some("README.md", 3));
        Errors.Expect(MergeError.HubConflict, () => publisher.Run(plan, FilesOf(model), "Upload", null, Stop), Id, "Someone has committed");
        Assert.Equal(theirs, repository.Head);

        // What was sent is not sent again.
        Server.ForgetLog();
        Assert.Equal(0, Publish(model).BytesSent);
        AssertPublished(model);
    }

    [Theory]
    [InlineData(FaultKind.Status)]
    [InlineData(FaultKind.LostAnswer)]
    public void A_pull_request_is_made_once_by_who_may_only_read(FaultKind kind)
    {
        var repository = Server.Add(Id);
        var head = repository.Head;
        Server.Fail(new HubFault(kind, "POST", "/commit/"));
        var model = Model();
        var result = Publish(model, new PublishTarget(Id) { CreatePullRequest = true }, token: HubServer.ReadToken);
        Assert.Equal($"{Server.Endpoint}{Id}/discussions/1", result.PullRequest);
        Assert.Equal((head, 3), (repository.Head, repository.Commits.Count));
        AssertPublished(model, revision: "refs/pr/1");

        // It is gone on with by its name.
        File.WriteAllText(Path.Combine(model, "config.json"), "{}");
        Publish(model, new PublishTarget(Id) { Revision = "refs/pr/1" });
        AssertPublished(model, revision: "refs/pr/1");
        Assert.Equal(head, repository.Head);
    }

    [Fact]
    public void A_branch_is_made_where_main_is()
    {
        var repository = Server.Add(Id, Some("notes.txt", 5));
        var head = repository.Head;
        var model = Model();
        Publish(model, new PublishTarget(Id) { Revision = "feature/x" });
        Assert.Equal(head, repository.Head);
        Assert.Contains("notes.txt", repository.Find("feature/x")!.Files.Keys);
        AssertPublished(model, revision: "feature/x");
        Errors.Expect(MergeError.HubNotFound, () => Publish(model, new PublishTarget(Id) { Revision = "refs/pr/9" }), "refs/pr/9");
    }

    [Fact]
    public void What_the_Hub_would_refuse_is_found_before_anything_is_sent_or_made()
    {
        var model = Model();
        Server.Add("org/public");
        Errors.Expect(MergeError.HubAccessDenied, () => Publish(model, token: null), "needs a token", "hf auth login");
        Errors.Expect(MergeError.HubAccessDenied, () => Publish(model, new PublishTarget("org/public"), HubServer.ReadToken), "org/public");
        Errors.Expect(MergeError.HubAccessDenied, () => Publish(model, new PublishTarget("other/out")), "other", "org");
        Errors.Expect(MergeError.HubRefused, () => Publish(model, new PublishTarget("org/public") { Private = true }), "is public");
        File.WriteAllText(Path.Combine(model, "README.md"), "---\nbase_model: models/base/local\n---\n");
        Errors.Expect(MergeError.HubRefused, () => Publish(model), "README.md", "models/base/local");
        Assert.DoesNotContain(Id, Server.Repositories.Keys);
        Assert.DoesNotContain(Server.Log, l => l.Contains("/commit/", StringComparison.Ordinal)
            || l.Contains("/batch", StringComparison.Ordinal) || l.StartsWith("PUT", StringComparison.Ordinal));
    }

    [Fact]
    public void A_full_storage_ends_it_at_once()
    {
        Server.Add(Id);
        Server.Fail(new HubFault(FaultKind.Status, "POST", "/batch", Times: 9) { Status = 403, Message = "Storage limit reached" });
        Errors.Expect(MergeError.HubRefused, () => Publish(Model()), "storage", Id);
        Assert.Single(Server.Log, l => l.Contains("/batch", StringComparison.Ordinal));
    }

    [Fact]
    public void The_Hub_copies_what_the_base_has()
    {
        var model = Model();
        var weights = File.ReadAllBytes(Path.Combine(model, "model.safetensors"));
        var @base = Server.Add("org/base", ("base.safetensors", weights));
        Server.Objects.HideFromBatch.Add(@base.Head.Files["base.safetensors"].Lfs!);
        var result = Publish(model, source: "org/base");
        Assert.Equal((0, FileOutcome.Copied), (result.BytesSent, result.Files.Single(f => f.Name == "model.safetensors").Outcome));
        AssertPublished(model);
    }

    [Fact]
    public void Nothing_of_this_machine_is_published()
    {
        var model = Model();
        File.WriteAllText(Path.Combine(model, "config.json"), $$"""{"model_type": "tiny", "_name_or_path": "{{Temp["base"]}}"}""");
        File.WriteAllText(Path.Combine(model, "merge.json"), """{"version": "1", "unsynced": {"config.json": 500}}""");
        var warnings = new List<string>();
        PublishedFiles.Open(model, "org/base", [], warnings);
        Assert.Contains("org/base", Assert.Single(warnings), StringComparison.Ordinal);
        Publish(model);
        Assert.Equal("""{"model_type":"tiny"}""", JsonNode.Parse(Server.Read(Id, "config.json"))!.ToJsonString());
        Assert.Equal("""{"version":"1"}""", JsonNode.Parse(Server.Read(Id, "merge.json"))!.ToJsonString());

        File.WriteAllText(Path.Combine(model, "README.md"), $"Merged from {Temp["base"]}\n");
        Errors.Expect(MergeError.InvalidModel, () => PublishedFiles.Open(model, null, [Temp["base"]], []), "README.md", "line 1");
        File.WriteAllText(Path.Combine(model, "README.md"), $"\nLog in with hf_{new string('a', 34)}\n");
        var error = Errors.Expect(MergeError.InvalidModel, () => PublishedFiles.Open(model, null, [], []), "README.md", "token", "line 2");
        Assert.DoesNotContain("hf_", error.ToString(), StringComparison.Ordinal);
    }

    private static (string, byte[]) Some(string name, int length) =>
        (name, [.. Enumerable.Range(0, length).Select(i => (byte)(i + length))]);

    private string Model(params (string Name, int Length)[] more)
    {
        var directory = TinyModel.Base(Temp["out"], TinyTensor.Random("w", [40, 33], 1));
        File.WriteAllText(Path.Combine(directory, "README.md"), "---\nbase_model: org/base\n---\n\n# Out\n");
        foreach (var (name, length) in more)
        {
            Directory.CreateDirectory(Path.GetDirectoryName(Path.Combine(directory, name))!);
            File.WriteAllBytes(Path.Combine(directory, name), Some(name, length).Item2);
        }

        return directory;
    }

    private static List<UploadFile> FilesOf(string model) => PublishedFiles.Open(model, null, [], []);

    private static long Length(string directory, string pattern) =>
        Directory.EnumerateFiles(directory, pattern).Sum(f => new FileInfo(f).Length);

    private static PublishResult Publish(HubClient client, string model, PublishTarget target, string? source,
        IProgress<UploadProgress>? progress, CancellationToken stop)
    {
        var (files, publisher) = (FilesOf(model), new Publisher(client, target));
        var plan = publisher.Plan([.. files.Select(f => f.Name)], [.. files.Where(f => f.Name == "README.md")], source, stop);
        return publisher.Run(plan, files, "Upload", progress, stop);
    }

    private PublishPlan Plan(string model, PublishTarget target, out Publisher publisher)
    {
        var files = FilesOf(model);
        publisher = new Publisher(Client(), target);
        return publisher.Plan([.. files.Select(f => f.Name)], [.. files.Where(f => f.Name == "README.md")], null, Stop);
    }

    private PublishResult Publish(string model, PublishTarget? target = null, string? token = HubServer.WriteToken, string? source = null,
        IProgress<UploadProgress>? progress = null, CancellationToken? cancellation = null)
    {
        using var client = Client(token);
        return Publish(client, model, target ?? new PublishTarget(Id), source, progress, cancellation ?? Stop);
    }

    private void AssertPublished(string model, string id = Id, string revision = "main") => AssertPublished(Server, model, id, revision);

    private static void AssertPublished(HubServer server, string model, string id, string revision)
    {
        foreach (var file in Directory.EnumerateFiles(model, "*", SearchOption.AllDirectories))
        {
            Assert.Equal(File.ReadAllBytes(file), server.Read(id, Path.GetRelativePath(model, file), revision));
        }
    }

    private sealed class Reporter(Action<UploadProgress> report) : IProgress<UploadProgress>
    {
        public void Report(UploadProgress value) => report(value);
    }
}
