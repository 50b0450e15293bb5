using UnslothMerge.Adapters;
using UnslothMerge.Hub.Fetching;
using UnslothMerge.Tests.Hub.StandIn;
using HubFile = UnslothMerge.Hub.Fetching.HubFile;

namespace UnslothMerge.Tests.Hub.Fetching;

/// <summary>Bases that are read from the Hub while they are merged.</summary>
public sealed class HubStreamTests : FetchTests
{
    private const int BlockBytes = HubFile.PartBytes;

    [Fact]
    public void A_merge_is_the_same_and_nothing_of_the_base_is_kept()
    {
        Publish(Base, Fixtures.Base("llama-bf16"));
        var (adapter, expected) = (Fixtures.Adapter("lora-all-linear"), Temp["expected"]);
        TinyModel.Save(TinyModel.WritePlan(TinyModel.Plan(Fixtures.Base("llama-bf16"), adapter)), expected);
        using var client = Client();
        var plan = Streamed(client, adapter);
        Server.ForgetLog();
        TinyModel.Save(TinyModel.WritePlan(plan), Temp["out"]);
        Assert.Equal(File.ReadAllBytes(Path.Combine(expected, "model.safetensors")), File.ReadAllBytes(Temp["out/model.safetensors"]));
        Assert.False(Path.Exists(Path.Combine(Snapshot(Base), "model.safetensors")));
        Assert.DoesNotContain(Server.Log, l => l.Contains("/resolve/", StringComparison.Ordinal));
        Assert.NotEmpty(PendingDownloads.Of(plan.InputFiles, streamed: true));
        Assert.Empty(PendingDownloads.Of(plan.InputFiles));
    }

    [Fact]
    public void A_base_in_another_form_is_refused()
    {
        Server.Add(Base, ("config.json", "{}"u8.ToArray()), ("pytorch_model.bin", [1, 2, 3]));
        using var client = Client();
        Errors.Expect(MergeError.InvalidOption, () => Streamed(client), "'pytorch_model.bin' of 'org/base'", "Only safetensors can");
        Assert.DoesNotContain(Server.Log, l => l.Contains("/objects/", StringComparison.Ordinal));
    }

    [Fact]
    public void It_takes_memory_that_the_plan_knows()
    {
        Publish(Base, Fixtures.Base("llama-bf16"));
        using var client = Client();
        var write = TinyModel.WritePlan(Streamed(client));
        var memory = ExecutionPlan.For(write, new MemoryLimit(long.MaxValue), 1, baseline: 0);
        Assert.Equal(HubStream.MemoryBytes, memory.Stages.Single(s => s.Name == "Stream").Host);
        var local = ExecutionPlan.For(
            TinyModel.WritePlan(TinyModel.Plan(Fixtures.Base("llama-bf16"))), new MemoryLimit(long.MaxValue), 1, baseline: 0);
        Assert.Equal(local.PeakHostBytes + HubStream.MemoryBytes, memory.PeakHostBytes);
    }

    /// <summary>Whether the plan or the merge reads the wrong bit, and whatever the output makes of it.</summary>
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void A_flipped_bit_leaves_no_model(int skip)
    {
        Publish(Base, Fixtures.Base("llama-bf16"));
        Server.Fail(new HubFault(FaultKind.FlippedBit, "GET", "/objects/", Skip: skip) { At = 15_000 });
        using var client = Client();
        var plan = Streamed(client);
        Errors.Expect(MergeError.HubUnavailable, () => TinyModel.Save(TinyModel.WritePlan(plan), Temp["out"]), "model.safetensors", Base);
        Assert.False(Path.Exists(Temp["out"]));
        Assert.Empty(Directory.EnumerateFileSystemEntries(Temp.Path).Except([Temp["home"]]));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Shards_are_trusted_once_their_base_is_known_to_be_right(bool damaged)
    {
        Publish(Base, Fixtures.Base("llama-bf16"));
        Server.Fail(new HubFault(FaultKind.FlippedBit, "GET", "/objects/", Skip: 1, Times: damaged ? 1 : 0) { At = 100 });
        using var client = Client();
        var plan = TinyModel.WritePlan(Streamed(client), shard: 2000);
        using var stream = HubStream.Open(plan.Merge.InputFiles, Stop)!;
        var trusted = new List<FinishedShard>();
        var shards = new VerifiedShards(stream, plan, trusted.Add);
        var all = plan.Shards.Select(s => new FinishedShard(s.Name, s.Layout.Length, null, [])).ToList();
        var error = Record.Exception(() =>
        {
            all.SkipLast(1).ToList().ForEach(shards.Add);
            stream.Complete();
            shards.Add(all[^1]);
        });
        Assert.Equal(damaged, error is HubException { Error: MergeError.HubUnavailable });
        Assert.Equal(damaged ? [] : all.Select(s => s.Name), trusted.Select(s => s.Name));
    }

    /// <summary>A later save would trust what the journal lists.</summary>
    [Fact]
    public void A_flipped_bit_leaves_no_finished_shards()
    {
        Publish(Base, Fixtures.Base("llama-bf16"));
        using var client = Client();
        var expected = Temp["expected"];
        TinyModel.Save(TinyModel.WritePlan(TinyModel.Plan(Fixtures.Base("llama-bf16")), shard: 2000), expected);
        Server.Fail(new HubFault(FaultKind.FlippedBit, "GET", "/objects/", Skip: 1) { At = 100 });
        var plan = TinyModel.WritePlan(Streamed(client), shard: 2000);
        Assert.True(plan.Shards.Length > 4);
        Errors.Expect(MergeError.HubUnavailable, () => TinyModel.SaveOn(SystemDisk.Instance, plan, Temp["out"]), "model.safetensors");
        Assert.False(Path.Exists(Temp[".out.unslothmerge"]));
        TinyModel.SaveOn(SystemDisk.Instance, plan, Temp["out"]);
        Assert.All(plan.Shards, s =>
            Assert.Equal(File.ReadAllBytes(Path.Combine(expected, s.Name)), File.ReadAllBytes(Path.Combine(Temp["out"], s.Name))));
    }

    [Fact]
    public void A_flipped_bit_in_a_part_that_is_not_used_is_found_too()
    {
        Publish(Base, Fixtures.Base("llama-bf16"));
        using var client = Client();
        var plan = Streamed(client);
        Server.Fail(new HubFault(FaultKind.FlippedBit, "GET", "/objects/") { At = 17_000 });
        var first = plan.Tensors.OrderBy(t => t.Source.Inputs[0].Offset).First();
        Errors.Expect(MergeError.HubUnavailable,
            () => TinyModel.Save(TinyModel.WritePlan(plan, tensors: [first]), Temp["out"]), "model.safetensors");
    }

    [Fact]
    public void Reads_in_any_order_by_many_threads_are_right()
    {
        var contents = Enumerable.Range(1, 3).Select(i => Bytes((i * 17 * BlockBytes) + i, i)).ToArray();
        Server.Add(Base, [.. contents.Select((c, i) => ($"model-{i}.safetensors", c))]);
        Server.Fail(new HubFault(FaultKind.Truncated, "GET", "/objects/", Skip: 9, Times: 3) { At = 999 });
        Server.Fail(new HubFault(FaultKind.Status, "GET", "/objects/", Skip: 30, Times: 1) { Status = 403 });
        using var client = Client();
        var files = Files(client);
        using (var stream = HubStream.Open(files.Select(StoredFile.Of), Stop, BlockBytes)!)
        {
            // Threads of their own: those of the pool serve the stand-in.
            var wrong = 0;
            var threads = Enumerable.Range(0, 8).Select(t => new Thread(() =>
            {
                for (var i = t; i < 200; i += 8)
                {
                    var random = new Random(i);
                    var file = random.Next(3);
                    var start = i < 100 ? (int)((long)contents[file].Length * i / 100) : random.Next(contents[file].Length);
                    var part = new byte[random.Next(1, Math.Min(3 * BlockBytes, contents[file].Length - start) + 1)];
                    files[file].Read(start, part);
                    Interlocked.Add(ref wrong, part.AsSpan().SequenceEqual(contents[file].AsSpan(start, part.Length)) ? 0 : 1);
                }
            })).ToList();
            threads.ForEach(t => t.Start());
            threads.ForEach(t => t.Join());
            stream.Complete();
            Assert.Equal(0, wrong);
        }

        var served = Server.Log.Count(l => l.Contains("/objects/", StringComparison.Ordinal));
        Assert.InRange(served, 17 * 6, 17 * 6 * 10);
    }

    [Fact]
    public void Reads_in_order_take_every_byte_once()
    {
        var content = Bytes((60 * BlockBytes) + 5, 1);
        Server.Add(Base, ("model.safetensors", content));
        using var client = Client();
        var files = Files(client);
        using var stream = HubStream.Open(files.Select(StoredFile.Of), Stop, BlockBytes)!;
        var part = new byte[BlockBytes / 2];
        for (var start = 0; start + part.Length <= content.Length; start += part.Length)
        {
            files[0].Read(start, part);
            Assert.True(part.AsSpan().SequenceEqual(content.AsSpan(start, part.Length)));
        }

        stream.Complete();
        Assert.Equal(61, Server.Log.Count(l => l.Contains("/objects/", StringComparison.Ordinal)));
        Assert.Single(Server.Log, l => l.Contains("/resolve/", StringComparison.Ordinal));
    }

    [Fact]
    public void A_block_that_is_another_the_second_time_is_refused()
    {
        var content = Bytes(200 * BlockBytes, 1);
        Server.Add(Base, ("model.safetensors", content));
        using var client = Client();
        var files = Files(client);
        using var stream = HubStream.Open(files.Select(StoredFile.Of), Stop, BlockBytes)!;
        var part = new byte[10];
        files[0].Read(150L * BlockBytes, part);
        for (var block = 0; block < 80; block++)
        {
            files[0].Read((long)block * BlockBytes, part);
        }

        Server.Fail(new HubFault(FaultKind.FlippedBit, "GET", "/objects/", Times: 1000) { At = 7 });
        Errors.Expect(MergeError.HubUnavailable, stream.Complete, "model.safetensors", "hash");
    }

    [Fact]
    public void A_stop_ends_it()
    {
        Server.Add(Base, ("model.safetensors", Bytes(100 * BlockBytes, 1)));
        using var client = Client();
        using var stop = new CancellationTokenSource();
        var files = Files(client);
        using var stream = HubStream.Open(files.Select(StoredFile.Of), stop.Token, BlockBytes)!;
        files[0].Read(0, new byte[10]);
        stop.Cancel();
        Assert.ThrowsAny<OperationCanceledException>(stream.Complete);
    }

    private static MergePlan Streamed(HubClient client, params string[] adapters)
    {
        var model = Find(client, Base);
        model.Streams = true;
        var fetched = HubFetch.Open(model, HubUse.Base, _ => true, null, Stop)!;
        return MergePlanner.Plan(ModelDirectory.Open(fetched.Directory, fetched.Remote),
            adapters.Select(a => new AdapterStep(AdapterDirectory.Open(a), 1)));
    }

    private static HubFile[] Files(HubClient client)
    {
        var model = Find(client, Base);
        return [.. model.All!.Where(f => f.Path.EndsWith(".safetensors", StringComparison.Ordinal)).Select(f => new HubFile(model, f))];
    }

    private static byte[] Bytes(int count, int seed)
    {
        var bytes = new byte[count];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }
}
