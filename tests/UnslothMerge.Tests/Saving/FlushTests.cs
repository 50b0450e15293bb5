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

    // In a process of its own, whose calls strace watches and lets fail.
    private (int ExitCode, string Errors) Save(string @case, string trace)
    {
        var merge = $"Import-Module '{Fixtures.Root}/UnslothMerge.psd1'; Merge-LoraModel '{Fixtures.Base("llama-bf16")}' " +
            $"'{Fixtures.Adapter("lora-" + @case)}' | Save-MergedModel '{Temp["out"]}' -Force -ErrorAction Stop";
        try
        {
            var (exit, _, errors) = PowerShellProcess.Start(["strace", "-f", "-qq", "-o", Temp["trace"], "-e", trace, "dotnet",
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
