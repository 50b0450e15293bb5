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
        Kill(Save(1));
        var records = Directory.EnumerateFiles($"{place}/.out.unslothmerge/shards").Count();
        Assert.InRange(records, 1, 2);
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

    // Requests of a kind wait once so many of them were answered.
    private void HoldAfter(int count, string method, string path)
    {
        var seen = 0;
        Server.Hold = (m, p) =>
        {
            if (m != method || !p.StartsWith(path, StringComparison.Ordinal) || Interlocked.Increment(ref seen) <= count)
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

    private void Kill(string command)
    {
        // A little later, so that what was answered is noted.
        var later = _isHeld.Task.ContinueWith(_ => Task.Delay(300), TaskScheduler.Default).Unwrap();
        PowerShellProcess.KillWithModule(command, later, Server.Environment(Temp["home"]));
    }

    private IReadOnlyList<string> Run(string command) => PowerShellProcess.RunWithModule(command, Server.Environment(Temp["home"]));
}
