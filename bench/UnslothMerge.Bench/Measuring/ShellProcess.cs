namespace UnslothMerge.Bench.Measuring;

/// <summary>Runs a script in a fresh shell, with the module in it, as a user would.</summary>
internal static class ShellProcess
{
    /// <summary>What a script writes before its figures: <c>[Console]::WriteLine("measured: 1 2")</c>.</summary>
    public const string Mark = "measured:";

    // The build puts both programs into folders of the same configuration.
    private static readonly string Shell = Path.GetFullPath(Path.Combine(
        AppContext.BaseDirectory, "..", "..", "UnslothMerge.Shell", Path.GetFileName(Path.TrimEndingDirectorySeparator(AppContext.BaseDirectory)), "unslothmerge.dll"));

    /// <summary>Runs a script and gives its figures, and how many seconds the process took.</summary>
    /// <exception cref="InvalidOperationException">It failed, or gave none.</exception>
    public static (string[] Figures, double Seconds) Run(string script)
    {
        var (text, seconds) = ChildProcess.Run("dotnet", Shell, "-NoProfile", "-NonInteractive", "-Command", $"$ErrorActionPreference = 'Stop'\n{script}");
        var line = text.Split('\n').FirstOrDefault(l => l.StartsWith(Mark, StringComparison.Ordinal))
            ?? throw new InvalidOperationException($"The shell did not say what it measured:\n{text}");
        return (line[Mark.Length..].Split(' ', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries), seconds);
    }

    /// <summary>A string as the shell reads it.</summary>
    public static string Quote(string text) => $"'{text.Replace("'", "''", StringComparison.Ordinal)}'";
}
