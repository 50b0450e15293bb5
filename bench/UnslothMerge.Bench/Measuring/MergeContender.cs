namespace UnslothMerge.Bench.Measuring;

/// <summary>The merge as a user runs it: a fresh PowerShell, the two cmdlets.</summary>
internal sealed record MergeContender(Merge Merge, bool Sync, string? Module = null) : Contender($"merge {Merge.Name}", Sync)
{
    public override Measurement Run(string output)
    {
        var (@base, adapter) = (PowerShellProcess.Quote(Merge.Base), PowerShellProcess.Quote(Merge.Adapter));

        // On Linux the peak working set is VmHWM.
        var (figures, seconds) = PowerShellProcess.Run(
            $$"""
            $options = @{ NoSync = ${{!Sync}}; WarningAction = 'SilentlyContinue' }
            $clock = [Diagnostics.Stopwatch]::StartNew()
            $null = Merge-LoraModel {{@base}} {{adapter}} | Save-MergedModel {{PowerShellProcess.Quote(output)}} {{Merge.Options}} @options
            $seconds = $clock.Elapsed.TotalSeconds
            [Console]::WriteLine("{{PowerShellProcess.Mark}} $seconds $([Diagnostics.Process]::GetCurrentProcess().PeakWorkingSet64)")
            """,
            Module);
        var peak = long.Parse(figures[1], CultureInfo.InvariantCulture);
        return new Measurement(double.Parse(figures[0], CultureInfo.InvariantCulture), seconds, peak > 0 ? peak : null);
    }
}
