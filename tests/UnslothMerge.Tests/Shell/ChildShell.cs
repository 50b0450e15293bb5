using System.Diagnostics;

namespace UnslothMerge.Tests.Shell;

/// <summary>Runs commands in a shell of a process of its own.</summary>
internal static class ChildShell
{
    /// <summary>Runs PowerShell text and gives what it wrote, line by line.</summary>
    /// <param name="command">The text.</param>
    /// <param name="environment">Variables for the process.</param>
    public static IReadOnlyList<string> Run(string command, params (string Name, string Value)[] environment)
    {
        var start = new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, "unslothmerge.dll"), "-NoProfile", "-NonInteractive", "-Command", $"$ErrorActionPreference = 'Stop'; {command}"])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
        };
        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        using var process = Process.Start(start)!;
        process.StandardInput.Close();
        var errors = process.StandardError.ReadToEndAsync();
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        Assert.True(process.ExitCode == 0, $"The shell ended with {process.ExitCode}:\n{output}\n{errors.Result}");
        return output.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
    }
}
