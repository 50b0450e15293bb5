using UnslothMerge.Tests.PowerShell;

namespace UnslothMerge.Tests.Saving;

public sealed class FlushTests : FileTests
{
    // Shards and files are flushed first, then the directories; the last call is for the name of the model.
    [Theory]
    [InlineData("EIO", "1")]
    [InlineData("ENOSPC", "2+")]
    [InlineData("EDQUOT", "last")]
    public void A_flush_that_fails_fails_the_save_and_leaves_the_previous_model(string error, string calls)
    {
        Assert.Equal(0, Save("all-linear", "trace=fsync").ExitCode);
        var previous = File.ReadAllBytes(Temp["out/model.safetensors"]);
        var count = File.ReadLines(Temp["trace"]).Count(l => l.Contains("fsync(", StringComparison.Ordinal));
        Assert.True(count > 3, $"fsync was called {count} times.");

        var (exit, errors) = Save("attention", $"inject=fsync:error={error}:when={(calls == "last" ? $"{count}" : calls)}");
        Assert.NotEqual(0, exit);
        Assert.Contains("could not be flushed to the disk", errors, StringComparison.Ordinal);
        Assert.Equal(previous, File.ReadAllBytes(Temp["out/model.safetensors"]));
        Assert.Equal([Temp["out"], Temp["trace"]], Directory.EnumerateFileSystemEntries(Temp.Path).Order());
    }

    // Without a flush nothing else tells that a network file system has not taken what was written.
    [Theory]
    [InlineData("close", "EDQUOT", "a file could not be closed")]
    [InlineData("pwrite64", "ECANCELED", "the system has cancelled it")]
    public void What_the_system_says_of_a_file_that_is_not_flushed_fails_the_save(string call, string error, string said)
    {
        var file = Temp[".out.unslothmerge/model/model.safetensors"];
        var (exit, errors) = Save("all-linear", $"inject={call}:error={error}:when=1", "-NoSync", "-P", file);
        Assert.NotEqual(0, exit);
        Assert.Contains(said, errors, StringComparison.Ordinal);
        Assert.Equal([Temp["trace"]], Directory.EnumerateFileSystemEntries(Temp.Path));
    }

    // In a process of its own, whose calls strace watches and lets fail.
    private (int ExitCode, string Errors) Save(string @case, string trace, string how = "", params string[] files)
    {
        var merge = $"Import-Module '{Fixtures.Root}/UnslothMerge.psd1'; Merge-LoraModel '{Fixtures.Base("llama-bf16")}' " +
            $"'{Fixtures.Adapter("lora-" + @case)}' | Save-MergedModel '{Temp["out"]}' -Force {how} -ErrorAction Stop";
        try
        {
            var (exit, _, errors) = PowerShellProcess.Start(["strace", "-f", "-qq", "-o", Temp["trace"], .. files, "-e", trace, "dotnet",
                .. PowerShellProcess.Arguments(merge)], ("NO_COLOR", "1"));
            Assert.SkipWhen(errors.Contains("ptrace", StringComparison.Ordinal), "strace may not watch a process here.");
            return (exit, errors.ReplaceLineEndings(" "));
        }
        catch (System.ComponentModel.Win32Exception)
        {
            Assert.Skip("There is no strace here.");
            throw;
        }
    }
}
