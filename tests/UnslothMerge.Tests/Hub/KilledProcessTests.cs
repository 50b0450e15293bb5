using System.Collections.Concurrent;
using UnslothMerge.Tests.PowerShell;

namespace UnslothMerge.Tests.Hub;

/// <summary>Processes that are killed (SIGKILL) while they send or read, and what the next one does.</summary>
public sealed class KilledProcessTests : HubTests
{
    private readonly TaskCompletionSource _isHeld = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _released = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public override void Dispose()
    {
        _released.TrySetResult();
        base.Dispose();
        GC.SuppressFinalize(this);
    }

    [Fact]
    public void A_part_goes_on_with_the_shards_that_were_not_sent()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Windows kills otherwise.");
        var (temporary, place) = (Directory.CreateDirectory(Temp["temporary"]).FullName, Directory.CreateDirectory(Temp["place"]).FullName);
        var merge = $"Merge-LoraModel '{Fixtures.Base("llama-bf16")}' '{Fixtures.Adapter("lora-all-linear")}'";
        string Save(int part) => $"{merge} | Save-MergedModel '{place}/out' -PushToHub org/out -Part {part}/2 -MaxShardSize 3kB "
            + $"-TemporaryLocation '{temporary}' 3>&1";
        HoldAfter(2, "PUT", "/objects/");
        var records = $"{place}/.out.unslothmerge/shards";
        Kill(Save(1), Until(() => _isHeld.Task.IsCompleted && Directory.EnumerateFiles(records).Any()));
        Assert.InRange(Directory.EnumerateFiles(records).Count(), 1, 2);
        Assert.NotEmpty(Directory.EnumerateFileSystemEntries(temporary));
        Assert.Equal([".gitattributes"], Server.Repositories["org/out"].Head.Files.Keys);
        Release();
        var lines = Run($"{Save(1)}; $null = {Save(2)}; $null = Complete-MergedModel '{place}/out' -PushToHub org/out; "
            + $"$null = {merge} | Save-MergedModel '{Temp["whole/out"]}' -MaxShardSize 3kB");
        Assert.Contains(lines, l => Regex.IsMatch(l, "[1-3] of . shards of part 1/2 (is|are) there already"));
        Assert.Equal(2, Server.Repositories["org/out"].Commits.Count);
        Assert.All(Directory.EnumerateFiles(Temp["whole/out"]), f =>
            Assert.Equal(File.ReadAllBytes(f), Server.Read("org/out", Path.GetFileName(f))));
        Assert.Empty(Directory.EnumerateFileSystemEntries(temporary));
        Assert.Empty(Directory.EnumerateFileSystemEntries(place));

        // What was on its way when it was killed is sent twice, and nothing else.
        Assert.InRange(Server.Log.Count(l => l.StartsWith("PUT ", StringComparison.Ordinal)), 7, 7 + 2);
    }

    [Fact]
    public void A_publication_sends_only_the_parts_of_a_file_that_are_missing()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Windows kills otherwise.");
        const int threads = 8, before = 20, partSize = 20_000;
        var model = Model(1);
        Server.Objects.PartSize = partSize;
        var parts = (int)((new FileInfo(Path.Combine(model, "model.safetensors")).Length + partSize - 1) / partSize);
        Assert.True(parts > before + threads);
        HoldAfter(before, "PUT", "/uploads/");
        Kill($"Publish-MergedModel '{model}' org/out", _isHeld.Task);
        Assert.Equal([".gitattributes"], Server.Repositories["org/out"].Head.Files.Keys);
        Release();
        Run($"Publish-MergedModel '{model}' org/out");
        Assert.Equal(2, Server.Repositories["org/out"].Commits.Count);
        Assert.All(Directory.EnumerateFiles(model), f => Assert.Equal(File.ReadAllBytes(f), Server.Read("org/out", Path.GetFileName(f))));
        Assert.InRange(Server.Log.Count(l => l.StartsWith("PUT /uploads/", StringComparison.Ordinal)), parts, parts + threads);
    }

    [Fact]
    public void A_download_goes_on_from_its_offset()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Windows kills otherwise.");
        var model = Model(1);
        Add("org/base", model);
        const int after = 400_000;
        Server.Stall = Stalled(_ => true, after);
        var save = $"Merge-LoraModel org/base | Save-MergedModel '{Temp["saved"]}' -DType float32";
        var length = new FileInfo(Path.Combine(model, "model.safetensors")).Length;
        Kill(save, Until(() => Directory.Exists(Temp["home"])
            && Directory.EnumerateFiles(Temp["home"], "*.progress", SearchOption.AllDirectories).Any(f =>
                new FileInfo(f[..^".progress".Length]) is { Exists: true } data && data.Length == length
                && BitConverter.ToInt32(File.ReadAllBytes(f)) > 0)));
        Server.Stall = null;
        var ranges = new List<string>();
        Server.Hold = request =>
        {
            lock (ranges)
            {
                ranges.AddRange(request.Path.StartsWith("/objects/", StringComparison.Ordinal)
                    ? [request.Context.Request.Headers.Range.ToString()] : []);
            }

            return Task.CompletedTask;
        };
        Run(save);

        // The plan reads the header and samples; what reads to the end is the download.
        var download = Assert.Single(ranges, r => r.EndsWith($"-{length - 1}", StringComparison.Ordinal));
        var start = long.Parse(download["bytes=".Length..download.IndexOf('-', StringComparison.Ordinal)], CultureInfo.InvariantCulture);
        Assert.InRange(start, 1, after);
        Assert.Equal(TinyModel.Stored(model), TinyModel.Stored(Temp["saved"]));
    }

    [Fact]
    public void A_merge_of_a_base_that_is_not_kept_goes_on_with_the_shards_that_are_right()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Windows kills otherwise.");
        var model = Model(6);
        Add("org/base", model);
        var last = Server.Repositories["org/base"].Head.Files.Last(f => f.Key.EndsWith(".safetensors", StringComparison.Ordinal)).Value;
        Server.Stall = Stalled(r => r.Path.EndsWith(last.Lfs!, StringComparison.Ordinal), 150_000);
        var save = $"Merge-LoraModel org/base -Stream | Save-MergedModel '{Temp["saved"]}' -DType float32 -MaxShardSize base 3>&1";
        var records = Temp[".saved.unslothmerge/shards"];
        Kill(save, Until(() => Directory.Exists(records) && Directory.EnumerateFiles(records, "*.json").Count() >= 3));
        Server.Stall = null;
        var bytes = new ConcurrentDictionary<string, long>();
        Server.Hold = request =>
        {
            if (request.IsStorage && Regex.Match(request.Context.Request.Headers.Range.ToString(), @"^bytes=(\d+)-(\d+)$") is var range)
            {
                var (from, to) = (long.Parse(range.Groups[1].Value, CultureInfo.InvariantCulture),
                    long.Parse(range.Groups[2].Value, CultureInfo.InvariantCulture));
                bytes.AddOrUpdate(request.Path, to - from + 1, (_, sum) => sum + to - from + 1);
            }

            return Task.CompletedTask;
        };
        var lines = Run(save);
        Assert.Contains(lines, l => Regex.IsMatch(l, "[345] of 6 shards are taken over"));
        Assert.Equal(TinyModel.Stored(model), TinyModel.Stored(Temp["saved"]));

        // Of the files that what is taken over was made of, headers and samples are read, and no more.
        Assert.InRange(bytes.Values.Count(b => b >= last.Size), 1, 3);
        Assert.Empty(Directory.EnumerateFiles(Path.Combine(Temp["home"], "hub", "models--org--base", "snapshots"), "*.safetensors",
            SearchOption.AllDirectories));
    }

    // A model of so many files of about a megabyte, or a quarter of it.
    private string Model(int files)
    {
        var tensors = Enumerable.Range(0, files == 1 ? 4 : files).Select(i => TinyTensor.Random($"w{i}", [256, 256], i)).ToArray();
        var plan = TinyModel.Plan(TinyModel.Base(Temp["source"], tensors));
        TinyModel.Save(TinyModel.WritePlan(plan, TensorType.F32, shard: files == 1 ? 10_000_000 : 270_000), Temp["model"]);
        Assert.Equal(files, Directory.EnumerateFiles(Temp["model"], "*.safetensors").Count());
        return Temp["model"];
    }

    private void Add(string id, string directory) =>
        Server.Add(id, [.. Directory.EnumerateFiles(directory).Select(f => (Path.GetFileName(f), File.ReadAllBytes(f)))]);

    private Func<StandIn.HubRequest, (int, Task)?> Stalled(Func<StandIn.HubRequest, bool> which, int after) =>
        request => request.IsStorage && which(request) ? (after, _released.Task) : null;

    private static async Task Until(Func<bool> isSo)
    {
        while (!isSo())
        {
            await Task.Delay(50, Stop);
        }
    }

    // Requests of a kind wait once so many of them were answered.
    private void HoldAfter(int count, string method, string path)
    {
        var seen = 0;
        Server.Hold = request =>
        {
            if (request.Method != method || !request.Path.StartsWith(path, StringComparison.Ordinal)
                || Interlocked.Increment(ref seen) <= count)
            {
                return Task.CompletedTask;
            }

            _isHeld.TrySetResult();
            return _released.Task;
        };
    }

    private void Release()
    {
        Server.Hold = null;
        _released.TrySetResult();
    }

    private void Kill(string command, Task when)
    {
        // A little later, so that what was answered is noted.
        var later = when.ContinueWith(_ => Task.Delay(300), TaskScheduler.Default).Unwrap();
        PowerShellProcess.KillWithModule(command, later, Server.Environment(Temp["home"]));
    }

    private IReadOnlyList<string> Run(string command) => PowerShellProcess.RunWithModule(command, Server.Environment(Temp["home"]));
}
