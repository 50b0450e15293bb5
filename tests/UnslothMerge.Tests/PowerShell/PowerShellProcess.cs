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
        var start = new ProcessStartInfo("dotnet", [BuildPath("PowerShell"), "-NoProfile", "-NonInteractive", "-Command", command])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
        };
        foreach (var (name, value) in environment.Append(("POWERSHELL_TELEMETRY_OPTOUT", "1")))
        {
            start.Environment[name] = value;
        }

        using var process = Process.Start(start)!;
        process.StandardInput.Close();
        var errors = process.StandardError.ReadToEndAsync();
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        Assert.True(process.ExitCode == 0, $"PowerShell ended with {process.ExitCode}:\n{output}\n{errors.Result}");
        return output.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
    }

    /// <summary>A path that the build handed on.</summary>
    public static string BuildPath(string name) =>
        typeof(PowerShellProcess).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == name).Value!;
}
