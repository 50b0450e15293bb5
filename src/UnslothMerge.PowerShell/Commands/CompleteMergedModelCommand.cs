using UnslothMerge.Files;
using UnslothMerge.Hub.Publishing;
using UnslothMerge.Saving.Parts;

namespace UnslothMerge.PowerShell.Commands;

/// <summary>Makes a model of the parts that Save-MergedModel -Part has saved.</summary>
[Cmdlet(VerbsLifecycle.Complete, "MergedModel", SupportsShouldProcess = true)]
[OutputType(typeof(SavedModelShard))]
public sealed class CompleteMergedModelCommand : EngineCommand
{
    /// <summary>The destination that the parts were saved to.</summary>
    [Parameter(Mandatory = true, Position = 0)]
    [Alias("SaveDirectory", "OutputPath")]
    [ValidateNotNullOrEmpty]
    [ArgumentCompleter(typeof(FolderCompleter))]
    public string Destination { get; set; } = "";

    /// <summary>Replaces a model at the destination. The previous model stays until the new one is complete.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    /// <summary>Does not wait until the files are on the disk. A loss of power soon after can then leave neither the new model nor, with
    /// -Force, the previous one.</summary>
    [Parameter]
    public SwitchParameter NoSync { get; set; }

    /// <summary>The maximum number of threads; the number of processors by default.</summary>
    [Parameter]
    [ValidateRange(1, 1024)]
    [ArgumentCompleter(typeof(ThreadsCompleter))]
    [PSDefaultValue(Help = "The number of processors")]
    public int ThrottleLimit { get; set; } = Environment.ProcessorCount;

    protected override void EndProcessing()
    {
        var path = Unresolved(Destination, nameof(Destination));
        var model = Engine(() => ModelCompletion.Find(path, Force));
        if (!ShouldProcess(path,
            $"Complete {model.Plan.Method}: {Amount.Text(model.Plan.Shards.Length, "shard")} of {Amount.Text(model.Plan.Parts, "part")}"))
        {
            return;
        }

        var progress = new UploadProgressRecord(WriteProgress, $"Completing {path}", () => { }, TimeProvider.System);
        var clock = Stopwatch.StartNew();
        try
        {
            using var signals = new EndingSignals();
            using var stop = CancellationTokenSource.CreateLinkedTokenSource(Stop, signals.Ending);
            var shards = Engine(() => model.Complete(SystemDisk.Instance, !NoSync, ThrottleLimit, Report, stop.Token));
            WriteObject(shards.Select(s => new SavedModelShard(s, model.Path, clock.Elapsed)), enumerateCollection: true);
        }
        finally
        {
            progress.Complete();
        }

        void Report(long done, long total) => progress.Report(new UploadProgress("Verifying", done, total));
    }
}
