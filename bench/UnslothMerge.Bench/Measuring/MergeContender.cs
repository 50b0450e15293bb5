using System.Globalization;

namespace UnslothMerge.Bench.Measuring;

/// <summary>The merge as a user runs it: a fresh shell, the two cmdlets.</summary>
/// <param name="Name">What the table calls it.</param>
/// <param name="Base">The model.</param>
/// <param name="Adapter">The adapter.</param>
/// <param name="Sync">False for -NoSync.</param>
internal sealed record MergeContender(string Name, string Base, string Adapter, bool Sync) : Contender(Name, Sync)
{
    /// <inheritdoc/>
    public override Measurement Run(string output)
    {
        // On Linux the peak working set is VmHWM.
        var (figures, seconds) = ShellProcess.Run($"""
            $clock = [Diagnostics.Stopwatch]::StartNew()
            Merge-LoraModel {ShellProcess.Quote(Base)} {ShellProcess.Quote(Adapter)} | Save-MergedModel {ShellProcess.Quote(output)} {(Sync ? "" : "-NoSync")} | Out-Null
            $seconds = $clock.Elapsed.TotalSeconds.ToString([Globalization.CultureInfo]::InvariantCulture)
            [Console]::WriteLine("{ShellProcess.Mark} $seconds $([Diagnostics.Process]::GetCurrentProcess().PeakWorkingSet64)")
            """);
        return new Measurement(double.Parse(figures[0], CultureInfo.InvariantCulture), seconds, long.Parse(figures[1], CultureInfo.InvariantCulture) is > 0 and var peak ? peak : null);
    }
}
