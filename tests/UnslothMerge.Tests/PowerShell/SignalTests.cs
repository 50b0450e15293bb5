namespace UnslothMerge.Tests.PowerShell;

public sealed class SignalTests : FileTests
{
    private string Staging => Temp[".out.unslothmerge"];

    private string UntilShard => $"while ! ls '{Staging}'/shards/*.json > /dev/null; do sleep 0.05; done";

    // Every flush takes a while, so that the signal comes between two shards.
    private static string[] Slowly(int milliseconds) =>
        ["strace", "-f", "-qq", "-o", "/dev/null", "-e", $"inject=fsync:delay_enter={milliseconds}000"];

    [Theory]
    [InlineData("TERM", 143)]
    [InlineData("HUP", 129)]
    public void A_process_that_is_told_to_end_keeps_what_is_finished(string signal, int exit)
    {
        var (code, output, _) = Run(Save("$env:OUT"), Slowly(200), $"{UntilShard}; kill -{signal} $(cat '{Temp["pid"]}')");
        Assert.Equal(exit, code);
        AssertGoesOn(output);
    }

    [Fact]
    public void Ctrl_C_in_a_terminal_keeps_what_is_finished()
    {
        // Its keys are there as long as it is. Progress would ask this terminal where its cursor is, which never answers.
        var (_, output, _) = RunInTerminal($"$ProgressPreference = 'Ignore'; $PID > '{Temp["pid"]}'; {Save(Temp["out"])}",
            $"{UntilShard}; while kill -0 $(cat '{Temp["pid"]}'); do printf '\\003'; sleep 1; done");
        AssertGoesOn(output);
    }

    [Fact]
    public void A_broken_pipe_does_not_stop_a_save()
    {
        var (code, _, errors) = Run(Save("$env:OUT"), Slowly(100), $"{UntilShard}; kill -PIPE $(cat '{Temp["pid"]}')");
        Assert.True(code == 0 && Directory.Exists(Temp["out"]), errors);
        Assert.False(Directory.Exists(Staging));
    }

    [Fact]
    public void A_reader_that_leaves_does_not_stop_a_save()
    {
        var result = PowerShellProcess.Start(["bash", "-c", "\"$@\" 2>&1 | true; exit ${PIPESTATUS[0]}", "bash", "dotnet",
            .. PowerShellProcess.Arguments(
                $"Import-Module '{Fixtures.Root}/UnslothMerge.psd1'; 1..1000; {Save(Temp["out"])} -Verbose; 1..1000")]);
        Assert.True(Directory.Exists(Temp["out"]), result.Errors);
        Assert.False(Directory.Exists(Staging));
    }

    private void AssertGoesOn(string output)
    {
        Assert.True(output.Contains("finished and kept", StringComparison.Ordinal), output);
        Assert.False(Directory.Exists(Temp["out"]));
        Assert.NotEmpty(Directory.EnumerateFiles(Path.Combine(Staging, "model")));
        Assert.True(Directory.EnumerateFiles(Path.Combine(Staging, "model")).Count() < 4);

        var lines = PowerShellProcess.RunWithModule($"{Save(Temp["out"])} 3>&1");
        Assert.Contains(lines, l => l.Contains("are taken over", StringComparison.Ordinal));
        PowerShellProcess.RunWithModule(Save(Temp["whole/out"]));
        Assert.Equal(TinyModel.Fingerprint(Temp["whole/out"]), TinyModel.Fingerprint(Temp["out"]));
        Assert.False(Directory.Exists(Staging));
    }

    [Fact]
    public void A_worker_that_is_told_to_end_keeps_what_is_finished()
    {
        var (code, output, _) = Run($"{Save("$env:OUT")} -Part 1/1",
            ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=fsync:delay_enter=200000"],
            $"while ! ls '{Staging}'/shards/*.json; do sleep 0.05; done; kill -TERM $(cat '{Temp["pid"]}')");
        Assert.Equal(143, code);
        Assert.Contains("of part 1/1", output, StringComparison.Ordinal);
        Assert.Empty(Directory.EnumerateFileSystemEntries(Path.Combine(Staging, "work")));
        Assert.True(Directory.EnumerateFiles(Path.Combine(Staging, "model")).Count() is > 0 and < 4);

        var lines = PowerShellProcess.RunWithModule(
            $"{Save(Temp["out"])} -Part 1/1 3>&1; $null = Complete-MergedModel '{Temp["out"]}'; {Save(Temp["whole/out"])}");
        Assert.Contains(lines, l => l.Contains("there already", StringComparison.Ordinal));
        Assert.Equal(TinyModel.Fingerprint(Temp["whole/out"]), TinyModel.Fingerprint(Temp["out"]));
        Assert.False(Directory.Exists(Staging));
    }

    [Fact]
    public void A_process_that_ignores_the_end_of_its_terminal_goes_on()
    {
        var (code, _, errors) = Run(Save("$env:OUT"), ["nohup", .. Slowly(100)], $"{UntilShard}; kill -HUP $(cat '{Temp["pid"]}')");
        Assert.True(code == 0, errors);
        Assert.True(Directory.Exists(Temp["out"]));
    }

    [Fact]
    public void A_file_that_may_not_grow_is_an_error()
    {
        var (code, _, errors) = Run(
            $"try {{ prlimit --fsize=4000:unlimited --pid $PID; {Save("$env:OUT")} }} finally {{ prlimit --fsize=unlimited --pid $PID }}",
            ["env"], "true");
        Assert.SkipWhen(errors.Contains("prlimit", StringComparison.Ordinal), "There is no prlimit here.");
        Assert.Equal(1, code);
        Assert.Contains("could not be written", errors, StringComparison.Ordinal);
        Assert.False(Directory.Exists(Temp["out"]));
    }

    private static string Save(string output) => $"Merge-LoraModel '{Fixtures.Base("llama-bf16")}' "
        + $"'{Fixtures.Adapter("lora-all-linear")}' | Save-MergedModel {output} -MaxShardSize 5kB -ErrorAction Stop";

    // In a terminal whose keys another command presses.
    private (int ExitCode, string Output, string Errors) RunInTerminal(string command, string keys)
    {
        File.WriteAllText(Temp["save.ps1"], $"Import-Module '{Fixtures.Root}/UnslothMerge.psd1'; {command}");
        // Whoever started the tests may ignore Ctrl+C, which their processes would inherit.
        string[] program =
        [
            "env", "--default-signal=INT", .. Slowly(200),
            "dotnet", PowerShellProcess.BuildPath("PowerShell"), "-NoProfile", Temp["save.ps1"],
        ];
        var line = string.Join(' ', program.Select(a => $"'{a}'"));
        var result = PowerShellProcess.Start(["bash", "-c", $"({keys} 2>/dev/null) | script -qec \"{line}\" /dev/null"],
            ("NO_COLOR", "1"), ("TERM", "dumb"));
        Assert.SkipWhen(result.Errors.Contains("script", StringComparison.Ordinal)
            || result.Output.Contains("strace: ", StringComparison.Ordinal), "There is no terminal to be had, or no strace.");
        return (result.ExitCode, result.Output.ReplaceLineEndings(" "), result.Errors.ReplaceLineEndings(" "));
    }

    // In a process of its own, below another program, beside a shell command.
    private (int ExitCode, string Output, string Errors) Run(string command, string[] below, string beside)
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Windows has no signals.");
        var arguments = PowerShellProcess.Arguments(
            $"$PID > '{Temp["pid"]}'; Import-Module '{Fixtures.Root}/UnslothMerge.psd1'; {command}");
        var result = PowerShellProcess.Start(
            ["bash", "-c", $"({beside}) >/dev/null 2>&1 & exec \"$@\"", "bash", .. below, "dotnet", .. arguments],
            ("NO_COLOR", "1"), ("OUT", Temp["out"]), ("PSModuleAnalysisCachePath", "/dev/null"));
        Assert.SkipWhen(result.Errors.Contains("ptrace", StringComparison.Ordinal)
            || result.Errors.Contains("strace: ", StringComparison.Ordinal), "strace may not watch a process here.");
        return (result.ExitCode, result.Output.ReplaceLineEndings(" "), result.Errors.ReplaceLineEndings(" "));
    }
}
