using System.Reflection;

namespace UnslothMerge.Bench.Measuring;

/// <summary>Runs scripts in a fresh PowerShell, that of the tool manifest.</summary>
internal static class PowerShellProcess
{
    /// <summary>What a script writes before its figures: <c>[Console]::WriteLine("measured: 1 2")</c>.</summary>
    public const string Mark = "measured:";

    private static readonly string Program =
        typeof(PowerShellProcess).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == "PowerShell").Value!;

    /// <summary>The manifest of this checkout's module.</summary>
    public static string Module { get; } = FindModule();

    /// <summary>Imports the module in $importSeconds, runs a script, and gives its figures and the seconds of the process.</summary>
    public static (string[] Figures, double Seconds) Run(string script, string? module = null)
    {
        var (text, seconds) = Start($"""
            $ErrorActionPreference = 'Stop'
            $clock = [Diagnostics.Stopwatch]::StartNew()
            Import-Module {Quote(module ?? Module)}
            $importSeconds = $clock.Elapsed.TotalSeconds
            {script}
            """);
        var line = text.Split('\n').FirstOrDefault(l => l.StartsWith(Mark, StringComparison.Ordinal))
            ?? throw new InvalidOperationException($"PowerShell did not say what it measured:\n{text}");
        return (line[Mark.Length..].Split(' ', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries), seconds);
    }

    /// <summary>Runs a script, and gives what it wrote and how many seconds the process took.</summary>
    public static (string Output, double Seconds) Start(string script) =>
        ChildProcess.Run("dotnet", Program, "-NoProfile", "-NonInteractive", "-Command", script);

    /// <summary>A string as PowerShell reads it.</summary>
    public static string Quote(string text) => $"'{text.Replace("'", "''", StringComparison.Ordinal)}'";

    private static string FindModule()
    {
        var folder = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(folder, "UnslothMerge.psd1")))
        {
            folder = Path.GetDirectoryName(folder)
                ?? throw new InvalidOperationException($"There is no UnslothMerge.psd1 above {AppContext.BaseDirectory}.");
        }

        return Path.Combine(folder, "UnslothMerge.psd1");
    }
}
