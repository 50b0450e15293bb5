using System.Globalization;

namespace UnslothMerge.Bench.Measuring;

/// <summary>The merge as a user runs it: a fresh shell, the two cmdlets.</summary>
/// <param name="Name">What the table calls it.</param>
/// <param name="Base">The model.</param>
/// <param name="Adapter">The adapter.</param>
/// <param name="Sync">False for -NoSync.</param>
internal sealed record MergeContender(string Name, string Base, string Adapter, bool Sync) : Contender(Name, Sync)
{
    private const string Mark = "measured:";

    // The build puts both programs into folders of the same configuration.
    private static readonly string Shell = Path.GetFullPath(Path.Combine(
        AppContext.BaseDirectory, "..", "..", "UnslothMerge.Shell", Path.GetFileName(Path.TrimEndingDirectorySeparator(AppContext.BaseDirectory)), "unslothmerge.dll"));

    /// <inheritdoc/>
    public override Measurement Run(string output)
    {
        // On Linux the peak working set is VmHWM.
        var script = $"""
            $ErrorActionPreference = 'Stop'
            $clock = [Diagnostics.Stopwatch]::StartNew()
            Merge-LoraModel {Quote(Base)} {Quote(Adapter)} | Save-MergedModel {Quote(output)} {(Sync ? "" : "-NoSync")} | Out-Null
            $seconds = $clock.Elapsed.TotalSeconds.ToString([Globalization.CultureInfo]::InvariantCulture)
            [Console]::WriteLine("{Mark} $seconds $([Diagnostics.Process]::GetCurrentProcess().PeakWorkingSet64)")
            """;
        var (text, seconds) = ChildProcess.Run("dotnet", Shell, "-NoProfile", "-NonInteractive", "-Command", script);
        var figures = text.Split('\n').FirstOrDefault(l => l.StartsWith(Mark, StringComparison.Ordinal))?[Mark.Length..].Split(' ', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)
            ?? throw new InvalidOperationException($"The merge did not say how long it took:\n{text}");
        return new Measurement(double.Parse(figures[0], CultureInfo.InvariantCulture), seconds, long.Parse(figures[1], CultureInfo.InvariantCulture) is > 0 and var peak ? peak : null);
    }

    private static string Quote(string path) => $"'{path.Replace("'", "''", StringComparison.Ordinal)}'";
}
