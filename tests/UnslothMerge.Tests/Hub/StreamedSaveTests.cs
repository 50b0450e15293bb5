using UnslothMerge.Hub.Fetching;
using UnslothMerge.Hub.Publishing;
using UnslothMerge.Tests.Hub.StandIn;

namespace UnslothMerge.Tests.Hub;

/// <summary>A model that is merged and published without room for it.</summary>
public sealed class StreamedSaveTests : HubTests
{
    private const string Id = "org/out";
    private const int Shards = 6;

    [Fact]
    public void The_same_bytes_come_out_in_one_commit_with_two_shards_on_the_disk()
    {
        var plan = Plan();
        TinyModel.SaveOn(new Saving.Crashes.QuickDisk(), plan, Temp["local/out"]);
        Server.Add(Id, ("model.safetensors", [1]), ("model.safetensors.index.json", [2]));
        var (result, shards, most) = Run(plan, Temp["scratch/out"]);

        Assert.Equal(3, Server.Repositories[Id].Commits.Count);
        Assert.Equal(result.Commit, Server.Repositories[Id].Head.Id);
        var files = Directory.EnumerateFiles(Temp["local/out"]).Select(f => Path.GetFileName(f)!).Order(StringComparer.Ordinal).ToList();
        Assert.Equal(files, Server.Repositories[Id].Head.Files.Keys.Except([".gitattributes"]));
        Assert.All(files, f => Assert.Equal(File.ReadAllBytes(Path.Combine(Temp["local/out"], f)), Server.Read(Id, f)));
        Assert.Equal(Shards, shards.Count);
        Assert.InRange(most, 1, ShardStream.MaxShards);
        Assert.Empty(Directory.EnumerateFiles(Temp["scratch/out"], "model-*.safetensors"));
    }

    [Fact]
    public void A_failed_one_leaves_nothing_visible_and_sends_the_rest_the_next_time()
    {
        var plan = Plan();
        Server.Fail(new HubFault(FaultKind.Status, "PUT", "/objects/", Skip: 3, Times: 200) { Status = 403, Message = "Storage limit" });
        Errors.Expect(MergeError.HubRefused, () => Run(plan, Temp["first/out"]), "storage");
        Assert.Equal([".gitattributes"], Server.Repositories[Id].Head.Files.Keys);
        Server.Forgive();
        var (result, _, _) = Run(plan, Temp["second/out"]);
        Assert.Equal(3, result.Files.Count(f => f.Outcome == FileOutcome.Known));
        Assert.Equal(2, Server.Repositories[Id].Commits.Count);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void What_changes_while_it_is_read_or_sent_is_not_published(bool isBase)
    {
        var plan = Plan();
        File.WriteAllBytes(Temp["other"], [1, 2, 3]);
        var changed = 0;
        Server.Hold = request =>
        {
            if (request.Method == "PUT" && Interlocked.Exchange(ref changed, 1) == 0)
            {
                if (isBase)
                {
                    File.SetLastWriteTimeUtc(Temp["base/model.safetensors"], DateTime.UtcNow.AddHours(1));
                }
                else
                {
                    var shard = Directory.EnumerateFiles(Temp["scratch/out"], "model-*.safetensors").Order(StringComparer.Ordinal).First();
                    File.Delete(shard);
                    File.CreateSymbolicLink(shard, Temp["other"]);
                }
            }

            return Task.CompletedTask;
        };
        Errors.Expect(MergeError.FileChanged, () => Run(plan, Temp["scratch/out"]), isBase ? "base" : "scratch");
        Assert.Equal([".gitattributes"], Server.Repositories[Id].Head.Files.Keys);
        Assert.Equal([1, 2, 3], File.ReadAllBytes(Temp["other"]));
    }

    /// <summary>Neither the base nor the model is ever whole on this disk.</summary>
    [Fact]
    public void A_base_that_is_read_from_the_Hub_is_verified_before_the_commit()
    {
        var local = Plan();
        TinyModel.SaveOn(new Saving.Crashes.QuickDisk(), local, Temp["local/out"]);
        Server.Add("org/base", [.. Directory.EnumerateFiles(Temp["base"]).Select(f => (Path.GetFileName(f), File.ReadAllBytes(f)))]);
        using var client = Client();
        Server.Fail(new HubFault(FaultKind.FlippedBit, "GET", "/objects/", Skip: 1) { At = 2000 });
        var damaged = Streamed(client);
        Errors.Expect(MergeError.HubUnavailable, () => Run(damaged, Temp["first/out"]), "model.safetensors", "org/base");
        Assert.Single(Server.Repositories[Id].Commits);
        _ = Run(Streamed(client), Temp["second/out"]);
        Assert.All(local.Shards, s => Assert.Equal(File.ReadAllBytes(Temp[$"local/out/{s.Name}"]), Server.Read(Id, s.Name)));
    }

    private static WritePlan Streamed(HubClient client)
    {
        var model = HubModel.Find(client, new HubReference("org/base"), Stop);
        model.Streams = true;
        var found = HubFetch.Open(model, HubUse.Base, _ => true, null, Stop)!;
        return TinyModel.WritePlan(MergePlanner.Plan(ModelDirectory.Open(found.Directory, found.Remote), []), shard: 600);
    }

    private WritePlan Plan()
    {
        var tensors = Enumerable.Range(0, Shards).Select(i => TinyTensor.Random($"w{i}", [16, 16], i)).ToArray();
        return TinyModel.WritePlan(TinyModel.Plan(TinyModel.Base(Temp["base"], tensors)), shard: 600);
    }

    private (PublishResult Result, IReadOnlyList<SavedShard> Shards, int Most) Run(WritePlan write, string scratch)
    {
        using var client = Client();
        var publisher = new Publisher(client, new PublishTarget(Id));
        var destination = Destination.Check(scratch, [("base", write.Merge.Base.Path)], force: false);
        var extras = ModelExtras.For(write, destination, "merged_16bit", new ExtrasOptions());
        string[] names = [.. write.Shards.Select(s => s.Name), ShardIndex.NameFor(null), .. extras.Written().Keys];
        var plan = publisher.Plan(names, [UploadFile.Of(Encoding.UTF8.GetBytes(extras.Written()["README.md"]), "README.md")], null, Stop);
        Directory.CreateDirectory(scratch);
        var run = new RunOptions(ExecutionPlan.For(write, new MemoryLimit(long.MaxValue), 2), Sync: false);
        var most = 0;
        var (result, shards) = StreamedSave.Run(publisher, plan, run.Plan.Write, extras, scratch, Merge,
            () => PublishedFiles.Open(scratch, null, [], []), null, Stop);
        return (result, shards, most);

        FinishedShard Merge(WriteShard shard, CancellationToken stop)
        {
            var finished = StreamedSave.Merge(shard, scratch, run, null, stop);
            most = Math.Max(most, Directory.EnumerateFiles(scratch, "model-*.safetensors").Count());
            return finished;
        }
    }
}
