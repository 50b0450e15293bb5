using System.Reflection;

namespace UnslothMerge.Bench.Measuring;

/// <summary>Runs a script in a fresh PowerShell, that of the tool manifest, with the module imported.</summary>
internal static class PowerShellProcess
{
    /// <summary>What a script writes before its figures: <c>[Console]::WriteLine("measured: 1 2")</c>.</summary>
    public const string Mark = "measured:";

    private static readonly string Program = typeof(PowerShellProcess).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == "PowerShell").Value!;

    /// <summary>The manifest of this checkout's module.</summary>
    public static string Module { get; } = FindModule();

    /// <summary>Runs a script and gives its figures, and how many seconds the process took.</summary>
    /// <param name="script">What to run once the module is imported.</param>
    /// <param name="module">The manifest of the module.</param>
    /// <exception cref="InvalidOperationException">It failed, or gave none.</exception>
    public static (string[] Figures, double Seconds) Run(string script, string? module = null)
    {
        script = $"""
            $ErrorActionPreference = 'Stop'
            Import-Module {Quote(module ?? Module)}
            {script}
            """;
        var (text, seconds) = ChildProcess.Run("dotnet", Program, "-NoProfile", "-NonInteractive", "-Command", script);
        var line = text.Split('\n').FirstOrDefault(l => l.StartsWith(Mark, StringComparison.Ordinal))
            ?? throw new InvalidOperationException($"PowerShell did not say what it measured:\n{text}");
        return (line[Mark.Length..].Split(' ', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries), seconds);
    }

    /// <summary>A string as PowerShell reads it.</summary>
    public static string Quote(string text) => $"'{text.Replace("'", "''", StringComparison.Ordinal)}'";

    private static string FindModule()
    {
        var folder = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(folder, "UnslothMerge.psd1")))
        {
            folder = Path.GetDirectoryName(folder) ?? throw new InvalidOperationException($"There is no UnslothMerge.psd1 above {AppContext.BaseDirectory}.");
        }

        return Path.Combine(folder, "UnslothMerge.psd1");
    }
}
