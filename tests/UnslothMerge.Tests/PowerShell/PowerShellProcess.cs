namespace UnslothMerge.Tests.PowerShell;

/// <summary>Runs the PowerShell of the tool manifest, in a process of its own.</summary>
internal static class PowerShellProcess
{
    /// <summary>Runs commands that have the module of this checkout and gives what they wrote, line by line.</summary>
    public static IReadOnlyList<string> RunWithModule(string command, params (string Name, string Value)[] environment) =>
        Run($"Import-Module '{Path.Combine(Fixtures.Root, "UnslothMerge.psd1")}'; {command}", environment);

    /// <summary>Runs commands and gives what they wrote, line by line.</summary>
    public static IReadOnlyList<string> Run(string command, params (string Name, string Value)[] environment)
    {
        command = $"$ErrorActionPreference = 'Stop'; {command}";
        var (exit, output, errors) = Start(["dotnet", .. Arguments(command)], environment);
        Assert.True(exit == 0, $"PowerShell ended with {exit}:\n{output}\n{errors}");
        return output.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
    }

    /// <summary>Runs commands that have the module, and kills the process when something is done.</summary>
    public static void KillWithModule(string command, Task when, params (string Name, string Value)[] environment) =>
        Assert.True(TryKillWithModule(command, when, environment) is null, "It ended before it could be killed.");

    /// <summary>Runs commands that have the module, and kills the process when something is done. If it ends before, gives its exit code
    /// and what it wrote.</summary>
    public static (int ExitCode, string Output)? TryKillWithModule(
        string command, Task when, params (string Name, string Value)[] environment)
    {
        command = $"$ErrorActionPreference = 'Stop'; Import-Module '{Path.Combine(Fixtures.Root, "UnslothMerge.psd1")}'; {command}";
        using var process = Process.Start(Info(["dotnet", .. Arguments(command)], environment))!;
        process.StandardInput.Close();
        var (output, errors) = (process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
        var ended = process.WaitForExitAsync();
        if (Task.WhenAny(when, ended).GetAwaiter().GetResult() == ended)
        {
            return (process.ExitCode, $"{output.Result}\n{errors.Result}");
        }

        process.Kill();
        ended.GetAwaiter().GetResult();
        return null;
    }

    /// <summary>The arguments of dotnet that run commands.</summary>
    public static string[] Arguments(string command) =>
        [BuildPath("PowerShell"), "-NoProfile", "-NonInteractive", "-Command", command];

    /// <summary>Runs a program with its arguments, and gives its exit code and what it wrote.</summary>
    public static (int ExitCode, string Output, string Errors) Start(string[] command, params (string Name, string Value)[] environment)
    {
        using var process = Process.Start(Info(command, environment))!;
        process.StandardInput.Close();
        var errors = process.StandardError.ReadToEndAsync();
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, output, errors.Result);
    }

    private static ProcessStartInfo Info(string[] command, (string Name, string Value)[] environment)
    {
        var start = new ProcessStartInfo(command[0], command[1..])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
        };
        foreach (var (name, value) in environment.Append(("POWERSHELL_TELEMETRY_OPTOUT", "1")))
        {
            start.Environment[name] = value;
        }

        return start;
    }

    /// <summary>A path that the build handed on.</summary>
    public static string BuildPath(string name) =>
        typeof(PowerShellProcess).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == name).Value!;
}
