using UnslothMerge.Hub.Publishing;

namespace UnslothMerge.Tests.Hub;

public sealed class ScratchTests : FileTests
{
    [Fact]
    public void What_a_killed_process_left_is_deleted_by_the_next()
    {
        using var live = new Scratch(Temp.Path, "org/live");
        live.Open();
        foreach (var (folder, isLocked) in new[] { (".unslothmerge-dead", true), (".unslothmerge-other", false) })
        {
            Directory.CreateDirectory(Temp[folder]);
            File.WriteAllText(Temp[$"{folder}/{(isLocked ? "lock" : "file")}"], "");
        }

        using (var next = new Scratch(Temp.Path, "org/next"))
        {
            Assert.False(Directory.Exists(next.Path));
            next.Open();
            Assert.True(Directory.Exists(next.Path) && Directory.Exists(live.Path));
            Assert.False(Directory.Exists(Temp[".unslothmerge-dead"]));
            Assert.True(Directory.Exists(Temp[".unslothmerge-other"]));
        }

        Assert.Equal(2, Directory.EnumerateDirectories(Temp.Path).Count());
    }

    [Fact]
    public void Processes_that_begin_at_once_keep_what_they_have_opened()
    {
        Parallel.For(0, 400, new ParallelOptions { MaxDegreeOfParallelism = 8 }, _ =>
        {
            using var scratch = new Scratch(Temp.Path, "org/name");
            scratch.Open();
            File.WriteAllText(Path.Combine(scratch.Path, "shard"), "x");
            Thread.Yield();
            Assert.Equal("x", File.ReadAllText(Path.Combine(scratch.Path, "shard")));
        });

        Assert.Empty(Directory.EnumerateDirectories(Temp.Path));
    }
}
