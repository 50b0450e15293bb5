using UnslothMerge.Hub.Fetching;
using UnslothMerge.Hub.Publishing;
using UnslothMerge.Tests.Fuzzing;
using UnslothMerge.Tests.Hub.Fetching;
using UnslothMerge.Tests.Hub.StandIn;
using UnslothMerge.Tests.PowerShell;

namespace UnslothMerge.Tests.Hub;

/// <summary>Random faults, stops and kills (SIGKILL): a model is visible whole or not at all and committed once, no byte is wrong, and
/// what was taken is not sent again. By hand: <c>UNSLOTHMERGE_HUB_FAULTS=200</c> makes so many runs of each kind; <c>123:1</c> repeats the
/// one of the seed 123.</summary>
public sealed class HubFaultTests : FetchTests
{
    private const string Id = "org/out";

    // As many as send or read at once: what they are at when a run ends may be done again.
    private const int Threads = 8;

    private const int SegmentBytes = 64 * 1024;

    private (int Unfinished, int Met) _sum;

    private static readonly string? Given = Environment.GetEnvironmentVariable("UNSLOTHMERGE_HUB_FAULTS");

    [Fact]
    public void A_publication_is_whole_or_nothing() => Each("0:20", (seed, random) =>
    {
        var model = Model(seed, random.Next(1, 3), rows: 40);
        using var server = Disturbed(random, "/preupload", "/batch", "PUT", "PUT", "/uploads", "/verify", "/commit/", "/commit/", "/tree",
            "/revision", "/create");
        server.Objects.PartSize = random.Next(3) == 0 ? long.MaxValue : 1000;
        var hasModel = random.Next(2) == 0;
        if (hasModel)
        {
            server.Add(Id, ("pytorch_model.bin", [1, 2, 3]), ("notes.txt", [4]));
        }

        var target = new PublishTarget(Id) { Revision = random.Next(3) == 0 ? "dev" : "main", CreatePullRequest = random.Next(4) == 0 };
        var before = hasModel ? 2 : 1;
        var unfinished = 0;
        for (var isDone = false; !isDone;)
        {
            using var stop = CancellationTokenSource.CreateLinkedTokenSource(Stop);
            StopAfter(server, unfinished < 3 ? random.Next(60) : int.MaxValue, stop.Cancel);
            try
            {
                using var client = new HubClient(server.Settings(Temp[$"home-{seed}"]), clock: Clock);
                var publisher = new Publisher(client, target);
                var files = PublishedFiles.Open(model, null, [], []);
                var plan = publisher.Plan([.. files.Select(f => f.Name)], [.. files.Where(f => f.Name == "README.md")], null, stop.Token);
                publisher.Run(plan, files, "Upload", null, stop.Token);
                isDone = true;
            }
            catch (Exception e) when (e is HubException or OperationCanceledException && ++unfinished < 40)
            {
                // The next one goes on.
            }

            RequireWholeOrNothing(server, model, before);
        }

        Assert.Equal(before + 1, server.Repositories[Id].Commits.Count);
        RequireSentOnce(server, unfinished);
        Count(server, unfinished);
    });

    [Fact]
    public void A_killed_publication_is_whole_or_nothing() => Each("0:1", (seed, random) =>
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Windows kills otherwise.");
        var model = Model(seed, shards: 4, rows: 256);
        using var server = Disturbed(random, "PUT", "/uploads", "/verify", "/commit/", "/commit/", "/batch");
        server.Objects.PartSize = random.Next(3) == 0 ? long.MaxValue : 20_000;
        var temporary = Directory.CreateDirectory(Temp[$"temporary-{seed}"]).FullName;
        var (command, sent) = random.Next(2) == 0 ? ($"Publish-MergedModel '{model}' {Id}", model)
            : ($"Merge-LoraModel '{model}' | Save-MergedModel -PushToHub {Id} -DType float32 -MaxShardSize base "
                + $"-TemporaryLocation '{temporary}'", Temp[$"whole-{seed}/out"]);
        if (sent != model)
        {
            _ = PowerShellProcess.RunWithModule($"Merge-LoraModel '{model}' | Save-MergedModel '{sent}' -DType float32 -MaxShardSize base");
        }

        var kills = KillAndRepeat(server, Temp[$"home-{seed}"], random, command, "", () => RequireWholeOrNothing(server, sent, 1));
        Assert.Equal(2, server.Repositories[Id].Commits.Count);
        RequireSentOnce(server, kills);
        Count(server, kills);
        Assert.Empty(Directory.EnumerateFileSystemEntries(temporary));
    });

    [Fact]
    public void What_is_under_a_final_name_is_right() => Each("0:20", (seed, random) =>
    {
        using var server = Disturbed(random, "GET /objects/", "GET /api/resolve-cache", "GET /org/base/resolve");
        server.Add(Base, [.. Enumerable.Range(0, 3).Select(i => ($"file-{i}.{(i == 2 ? "json" : "safetensors")}",
            Bytes(random.Next(5 * SegmentBytes), seed + i)))]);
        using var client = new HubClient(server.Settings(Temp[$"home-{seed}"]), clock: Clock);
        for (var (isDone, attempt) = (false, 0); !isDone; attempt++)
        {
            using var stop = CancellationTokenSource.CreateLinkedTokenSource(Stop);
            StopAfter(server, attempt < 3 ? random.Next(30) : int.MaxValue, stop.Cancel);
            try
            {
                var model = Find(client, Base);
                Downloader.Run(client, model.Cache, model.Commit, model.All!, null, stop.Token, SegmentBytes);
                isDone = true;
            }
            catch (Exception e) when (e is HubException or OperationCanceledException && attempt < 20)
            {
                // The next one goes on.
            }

            RequireNothingWrong(server, Temp[$"home-{seed}"], isDone);
            Count(isDone ? server : null, isDone ? 0 : 1);
        }
    });

    [Fact]
    public void A_killed_download_is_whole_or_nothing() => Each("0:1", (seed, random) =>
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Windows kills otherwise.");
        var model = Model(seed, shards: 4, rows: 256);
        using var server = Disturbed(random, "GET /objects/", "GET /objects/", "GET /org/base/resolve");
        server.Add(Base, [.. Directory.EnumerateFiles(model).Select(f => (Path.GetFileName(f), File.ReadAllBytes(f)))]);
        var (saved, home) = (Temp[$"saved-{seed}"], Temp[$"home-{seed}"]);
        var streams = random.Next(2) == 0 ? "-Stream" : "";
        var command = $"Merge-LoraModel {Base} {streams} | Save-MergedModel '{saved}' -DType float32 -MaxShardSize base 3>&1";
        var kills = KillAndRepeat(server, home, random, command, $"if (Test-Path '{saved}') {{ exit 0 }}; ", () =>
        {
            RequireNothingWrong(server, home, isWhole: false);
            Assert.True(!Path.Exists(saved) || TinyModel.Stored(model).SequenceEqual(TinyModel.Stored(saved)));
        });
        Assert.Equal(TinyModel.Stored(model), TinyModel.Stored(saved));
        Count(server, kills);
    });

    private void Each(string usual, Action<int, Random> run)
    {
        var (first, count) = FuzzTests.ReadSeeds(Given ?? usual);
        for (var seed = first; seed < first + count; seed++)
        {
            try
            {
                run(seed, new Random(seed));
            }
            catch (Exception e) when (e is Xunit.Sdk.IAssertionException or MergeException)
            {
                throw new InvalidOperationException($"seed {seed}: {e.Message}", e);
            }
        }

        TestContext.Current.TestOutputHelper!.WriteLine(
            $"{count} runs from seed {first} on met {_sum.Met} faults; they were stopped, killed or failed {_sum.Unfinished} times.");
    }

    private void Count(HubServer? server, int unfinished) =>
        _sum = (_sum.Unfinished + unfinished, _sum.Met + (server?.Met.Count ?? 0));

    // A Hub that up to four kinds of requests find in trouble.
    private static HubServer Disturbed(Random random, params string[] targets)
    {
        var server = new HubServer();
        int[] statuses = [500, 503, 429, 403];
        for (var i = random.Next(1, 5); i > 0; i--)
        {
            var target = targets[random.Next(targets.Length)];
            var kind = (FaultKind)random.Next(5);
            var (method, path) = target.Split(' ') is [var verb, var rest] ? (verb, rest)
                : target == "PUT" ? ("PUT", "/") : (target is "/tree" or "/revision" ? "GET" : "POST", target);

            // A bit of an answer of the API is not what a client could know.
            kind = kind == FaultKind.FlippedBit && method != "GET" ? FaultKind.LostAnswer : kind;
            kind = kind == FaultKind.FlippedBit && !path.Contains("/objects/", StringComparison.Ordinal) ? FaultKind.Reset : kind;
            // Bytes of files take many requests, the others one or two.
            var skip = random.Next(path.Contains("/objects/", StringComparison.Ordinal) || method == "PUT" ? 7 : 2);
            server.Fail(new HubFault(kind, method, path, skip, random.Next(1, 4))
            {
                Status = statuses[random.Next(statuses.Length)], At = random.Next(20_000),
            });
        }

        return server;
    }

    private static void StopAfter(HubServer server, int requests, Action stop) => server.Hold = _ =>
    {
        if (Interlocked.Decrement(ref requests) == 0)
        {
            stop();
        }

        return Task.CompletedTask;
    };

    // Kills a command up to three times, then lets it end. Gives how often it did not come to its end.
    private static int KillAndRepeat(HubServer server, string home, Random random, string command, string unless, Action check)
    {
        var environment = server.Environment(home);
        for (var unfinished = 0; ; unfinished++)
        {
            var (reached, delay) = (new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously), random.Next(40));
            StopAfter(server, unfinished < 3 ? random.Next(1, 60) : int.MaxValue, () => reached.TrySetResult());
            var when = reached.Task.ContinueWith(_ => Task.Delay(delay), TaskScheduler.Default).Unwrap();
            var end = PowerShellProcess.TryKillWithModule(unless + command, when, environment);
            check();
            if (end is (0, _))
            {
                return unfinished;
            }

            Assert.True(unfinished < 10, end?.Output);
        }
    }

    private static void RequireWholeOrNothing(HubServer server, string model, int before)
    {
        foreach (var commit in server.Repositories.GetValueOrDefault(Id)?.Commits.Skip(before) ?? [])
        {
            Assert.All(Directory.EnumerateFiles(model), f =>
                Assert.Equal(File.ReadAllBytes(f), server.Read(Id, Path.GetFileName(f), commit.Id)));
            Assert.DoesNotContain("pytorch_model.bin", commit.Files.Keys);
        }
    }

    // But for what the storage took without its answer coming through, for what was on its way when a run ended, and for addresses that it
    // does not take any more.
    private static void RequireSentOnce(HubServer server, int unfinished)
    {
        var again = server.Objects.Taken.Values.Sum(times => times - 1);
        var lost = server.Met.Count(m => m.Fault.Method == "PUT" && m.Fault.Kind is FaultKind.LostAnswer or FaultKind.Truncated);
        var refused = server.Met.Count(m => m.Fault is { Kind: FaultKind.Status, Status: 403 });
        Assert.InRange(again, 0, lost + (Threads * unfinished) + (refused * server.Objects.Taken.Count));
    }

    private static void RequireNothingWrong(HubServer server, string home, bool isWhole)
    {
        var head = server.Repositories[Base].Head;
        var snapshot = Path.Combine(home, "hub", "models--org--base", "snapshots", head.Id);
        foreach (var file in head.Files.Keys)
        {
            var path = Path.Combine(snapshot, file);
            Assert.True(File.Exists(path) || !isWhole, $"{file} is not there.");
            Assert.True(!File.Exists(path) || File.ReadAllBytes(path).AsSpan().SequenceEqual(server.Read(Base, file)), $"{file} is wrong.");
        }
    }

    private string Model(int seed, int shards, int rows)
    {
        var tensors = Enumerable.Range(0, shards).Select(i => TinyTensor.Random($"w{i}", [rows, rows], (seed * 10) + i)).ToArray();
        var plan = TinyModel.Plan(TinyModel.Base(Temp[$"source-{seed}"], tensors));
        TinyModel.Save(TinyModel.WritePlan(plan, TensorType.F32, shard: (rows * rows * 4) + 1000), Temp[$"model-{seed}"]);
        return Temp[$"model-{seed}"];
    }

    private static byte[] Bytes(int count, int seed)
    {
        var bytes = new byte[count];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }
}
