namespace UnslothMerge.Bench.Measuring;

/// <summary>The merge as a user runs it: a fresh PowerShell, the two cmdlets.</summary>
/// <param name="Merge">What is merged.</param>
/// <param name="Sync">False for -NoSync.</param>
/// <param name="Module">The manifest of the module, if it is not this checkout's.</param>
internal sealed record MergeContender(Merge Merge, bool Sync, string? Module = null) : Contender($"merge {Merge.Name}", Sync)
{
    /// <inheritdoc/>
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
