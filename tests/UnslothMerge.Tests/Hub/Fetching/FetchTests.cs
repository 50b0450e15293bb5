using UnslothMerge.Adapters;
using UnslothMerge.Hub.Cache;
using UnslothMerge.Hub.Fetching;
using UnslothMerge.Tests.Hub.StandIn;

namespace UnslothMerge.Tests.Hub.Fetching;

/// <summary>Models that come from the Hub into the cache.</summary>
public abstract class FetchTests : HubTests
{
    private protected const string Base = "org/base", Adapter = "org/adapter";

    private protected string Cache => Temp["home/hub"];

    /// <summary>Publishes the files of a folder.</summary>
    private protected HubRepository Publish(string id, string directory, string? below = null) => Server.Add(id,
        [.. Directory.EnumerateFiles(directory).Select(f => (below + Path.GetFileName(f), File.ReadAllBytes(f)))]);

    private protected static HubModel Find(HubClient client, string name) =>
        HubModel.Find(client, HubReference.Parse(name, client.Settings.Endpoint)!, Stop);

    private protected static FetchedModel Fetch(HubClient client, string name, HubUse use) =>
        HubFetch.Open(Find(client, name), use, _ => true, null, Stop)!;

    private protected string Snapshot(string id) =>
        Path.Combine(Cache, "models--" + id.Replace("/", "--", StringComparison.Ordinal), "snapshots", Server.Repositories[id].Head.Id);

    /// <summary>The files of a directory: relative path → content.</summary>
    private protected static SortedDictionary<string, byte[]> Content(string directory) => new(
        Directory.EnumerateFiles(directory, "*", SearchOption.AllDirectories)
            .ToDictionary(f => Path.GetRelativePath(directory, f), File.ReadAllBytes), StringComparer.Ordinal);
}

/// <summary>What is fetched, and when.</summary>
public sealed class FetchedFilesTests : FetchTests
{
    private static readonly string LocalBase = Fixtures.Base("llama-bf16"), LocalAdapter = Fixtures.Adapter("lora-all-linear");

    [Fact]
    public void A_merge_is_the_same_as_from_local_folders()
    {
        Publish(Base, LocalBase);
        Publish(Adapter, LocalAdapter);
        using var client = Client();
        var (model, adapter) = (Fetch(client, Base, HubUse.Base), Fetch(client, Adapter, HubUse.Adapter));
        Assert.Equal(Snapshot(Base), model.Directory);
        Assert.Equal(["model.safetensors"], model.Remote.Names);
        Assert.False(File.Exists(Path.Combine(model.Directory, "model.safetensors")));

        var plan = MergePlanner.Plan(
            ModelDirectory.Open(model.Directory, model.Remote), [new(AdapterDirectory.Open(adapter.Directory), 1)]);
        var (pending, files) = Assert.Single(PendingDownloads.Of(plan.InputFiles));
        PendingDownloads.Run(pending, files, null, Stop);
        Assert.Empty(PendingDownloads.Of(plan.InputFiles));

        var local = MergePlanner.Plan(ModelDirectory.Open(LocalBase), [new(AdapterDirectory.Open(LocalAdapter), 1)]);
        Assert.Equal(Merged(local, "a"), Merged(plan, "b"));
        Assert.Equal(Base, plan.Base.Name);
        Assert.Equal(Adapter, plan.Steps[0].Adapter.Name);
    }

    /// <summary>Values that are read before the file is there come by ranges.</summary>
    [Fact]
    public void A_merge_may_read_before_the_weights_are_there()
    {
        Publish(Base, LocalBase);
        using var client = Client();
        var model = Fetch(client, Base, HubUse.Base);
        var plan = MergePlanner.Plan(ModelDirectory.Open(model.Directory, model.Remote), []);
        Assert.Equal(Merged(MergePlanner.Plan(ModelDirectory.Open(LocalBase), []), "a"), Merged(plan, "b"));
    }

    [Fact]
    public void A_cache_is_complete_for_the_tools_of_the_Hub()
    {
        Publish(Base, LocalBase);
        using var client = Client();
        Fetch(client, Base, HubUse.Whole);
        var (folder, head) = (Path.Combine(Cache, "models--org--base"), Server.Repositories[Base].Head);
        Assert.Equal(head.Id, File.ReadAllText(Path.Combine(folder, "refs", "main")));
        Assert.Equal(head.Files.Keys, RepositoryListing.Parse(File.ReadAllText(Path.Combine(folder, "trees", $"{head.Id}.json")))!
            .Select(f => f.Path));
        Assert.Equal(head.Files.Select(f => f.Value.Lfs ?? f.Value.Oid).Distinct().Order(),
            Directory.EnumerateFiles(Path.Combine(folder, "blobs")).Select(Path.GetFileName).Order());
        Assert.All(head.Files.Keys, f => Assert.Equal(Server.Read(Base, f), File.ReadAllBytes(Path.Combine(Snapshot(Base), f))));
        Assert.True(File.Exists(Path.Combine(folder, ".no_exist", head.Id, "adapter_config.json")));
        Assert.False(File.Exists(Path.Combine(folder, ".no_exist", head.Id, "config.json")));
        Assert.StartsWith("Signature: 8a477f597d28d172789f06886806bc55", File.ReadAllText(Path.Combine(Cache, "CACHEDIR.TAG")));
        Assert.Empty(Directory.EnumerateFiles(Path.Combine(folder, "partial")));
    }

    [Fact]
    public void What_the_cache_has_is_not_asked_for_again()
    {
        Publish(Base, LocalBase);
        using var client = Client();
        Fetch(client, Base, HubUse.Whole);
        Server.ForgetLog();

        // A branch may have moved; a commit has not.
        Fetch(client, Base, HubUse.Base);
        Assert.Equal(["GET /api/models/org/base/revision/main 0"], Server.Log);
        Server.ForgetLog();
        Fetch(client, $"{Base}@{Server.Repositories[Base].Head.Id}", HubUse.Base);
        Assert.Empty(Server.Log);
    }

    [Fact]
    public void Offline_the_cache_is_all_there_is()
    {
        Publish(Base, LocalBase);
        using var client = Client();
        using var offline = new HubClient(client.Settings with { Offline = true });
        Errors.Expect(MergeError.HubNotFound, () => Fetch(offline, Base, HubUse.Base), Base, "not in the cache", "-Offline");
        Fetch(client, Base, HubUse.Base);
        var error = Errors.Expect(MergeError.HubUnavailable, () => Fetch(offline, Base, HubUse.Base), Base, "model.safetensors");
        Assert.Equal(["model.safetensors"], error.Details);
        Fetch(client, Base, HubUse.Whole);
        Server.ForgetLog();
        Assert.Equal(Snapshot(Base), Fetch(offline, Base, HubUse.Base).Directory);
        Assert.Empty(Server.Log);
    }

    /// <summary>As transformers leaves it: no listing, and only the files that it asked for.</summary>
    [Fact]
    public void A_cache_without_a_listing_is_used_as_it_is()
    {
        Publish(Base, LocalBase);
        using var client = Client();
        Fetch(client, Base, HubUse.Whole);
        Directory.Delete(Path.Combine(Cache, "models--org--base", "trees"), recursive: true);
        using var offline = new HubClient(client.Settings with { Offline = true });
        Assert.NotEmpty(ModelDirectory.Open(Fetch(offline, Base, HubUse.Base).Directory).Checkpoint.Tensors);
    }

    [Fact]
    public void A_Hub_that_is_away_is_stood_in_for_by_the_cache()
    {
        Publish(Base, LocalBase);
        using var client = Client();
        Fetch(client, Base, HubUse.Whole);
        Server.Fail(new HubFault(FaultKind.Status, "GET", "/api/models", Times: 100));
        Assert.Equal(Snapshot(Base), Fetch(client, Base, HubUse.Base).Directory);
        Assert.Contains(client.TakeNotices(), n => n is { IsWarning: true } && n.Text.Contains("in the cache", StringComparison.Ordinal));
    }

    [Fact]
    public void A_branch_that_moved_is_followed()
    {
        var repository = Publish(Base, LocalBase);
        using var client = Client();
        var first = Fetch(client, Base, HubUse.Whole).Directory;
        Server.Commit(repository, ("generation_config.json", "{\"top_k\":1}"u8.ToArray()));
        Server.ForgetLog();
        var second = Fetch(client, Base, HubUse.Base).Directory;
        Assert.NotEqual(first, second);
        Assert.Single(Server.Log, l => l.Contains("/resolve/", StringComparison.Ordinal));
        Assert.True(File.Exists(Path.Combine(second, "model.safetensors")));
    }

    [Fact]
    public void A_revision_that_is_not_there_is_told()
    {
        Publish(Base, LocalBase);
        using var client = Client();
        Fetch(client, Base, HubUse.Whole);
        Errors.Expect(MergeError.HubNotFound, () => Fetch(client, $"{Base}@v9", HubUse.Base), Base, "v9");
    }

    [Fact]
    public void An_adapter_may_lie_in_a_folder()
    {
        Publish(Adapter, LocalAdapter, "checkpoint-500/");
        using var client = Client();
        Errors.Expect(MergeError.InvalidAdapter, () => Fetch(client, Adapter, HubUse.Adapter), "checkpoint-500",
            $"{Adapter}/checkpoint-500");
        Errors.Expect(MergeError.HubNotFound, () => Fetch(client, $"{Adapter}/checkpoint-1", HubUse.Adapter), "checkpoint-1",
            "It has checkpoint-500");
        var adapter = AdapterDirectory.Open(Fetch(client, $"{Adapter}/checkpoint-500", HubUse.Adapter).Directory);
        Assert.Equal(Adapter, adapter.Name);
        Assert.Equal(Server.Repositories[Adapter].Head.Id, HubCache.CommitOf(adapter.Path));
        Assert.EndsWith("blobs", HubCache.BlobsOf(adapter.Path));
    }

    [Fact]
    public void Only_what_a_merge_needs_comes()
    {
        var repository = Publish(Base, LocalBase);
        Server.Commit(repository, ("model.gguf", [1]), ("original/x.pth", [2]), ("pytorch_model.bin", [3]), ("plot.png", [4]));
        using var client = Client();
        var model = Find(client, Base);
        HubFetch.Open(model, HubUse.Base, _ => true, null, Stop);
        model.Download([.. HubFetch.NeededFiles(model)], null, Stop);
        Assert.Equal(
            Directory.EnumerateFiles(LocalBase).Select(Path.GetFileName).Order(StringComparer.Ordinal), Content(model.Directory).Keys);
    }

    [Fact]
    public void What_may_not_be_downloaded_is_not()
    {
        Publish(Base, LocalBase);
        using var client = Client();
        MissingFiles? told = null;
        Assert.Null(HubFetch.Open(Find(client, Base), HubUse.Base, missing =>
        {
            told = missing;
            return false;
        }, null, Stop));
        Assert.Equal(["model.safetensors"], told!.Later.Select(f => f.Path));
        Assert.Contains(told.Now, f => f.Path == "config.json");
        Assert.False(Directory.Exists(Cache));
    }

    private SortedDictionary<string, byte[]> Merged(MergePlan plan, string name)
    {
        TinyModel.Save(TinyModel.WritePlan(plan), Temp[name]);
        return new(Content(Temp[name]).Where(f => f.Key.EndsWith(".safetensors", StringComparison.Ordinal)).ToDictionary());
    }
}
