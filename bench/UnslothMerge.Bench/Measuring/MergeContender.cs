using System.Globalization;

namespace UnslothMerge.Bench.Measuring;

/// <summary>The merge as a user runs it: a fresh shell, the two cmdlets.</summary>
/// <param name="Merge">What is merged.</param>
/// <param name="Sync">False for -NoSync.</param>
internal sealed record MergeContender(Merge Merge, bool Sync) : Contender($"merge {Merge.Name}", Sync)
{
    /// <inheritdoc/>
    public override Measurement Run(string output)
    {
        // On Linux the peak working set is VmHWM.
        var (figures, seconds) = PowerShellProcess.Run($"""
            $clock = [Diagnostics.Stopwatch]::StartNew()
            Merge-LoraModel {PowerShellProcess.Quote(Merge.Base)} {PowerShellProcess.Quote(Merge.Adapter)} | Save-MergedModel {PowerShellProcess.Quote(output)} {Merge.Options} {(Sync ? "" : "-NoSync")} -WarningAction SilentlyContinue | Out-Null
            $seconds = $clock.Elapsed.TotalSeconds.ToString([Globalization.CultureInfo]::InvariantCulture)
            [Console]::WriteLine("{PowerShellProcess.Mark} $seconds $([Diagnostics.Process]::GetCurrentProcess().PeakWorkingSet64)")
            """);
        return new Measurement(double.Parse(figures[0], CultureInfo.InvariantCulture), seconds, long.Parse(figures[1], CultureInfo.InvariantCulture) is > 0 and var peak ? peak : null);
    }
}
