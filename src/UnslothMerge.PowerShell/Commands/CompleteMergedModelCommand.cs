using UnslothMerge.Files;
using UnslothMerge.Hub.Publishing;
using UnslothMerge.Saving;
using UnslothMerge.Saving.Parts;

namespace UnslothMerge.PowerShell.Commands;

/// <summary>Makes a model of the parts that Save-MergedModel -Part has saved.</summary>
[Cmdlet(VerbsLifecycle.Complete, "MergedModel", SupportsShouldProcess = true, DefaultParameterSetName = LocalSet)]
[OutputType(typeof(SavedModelShard), typeof(PublishedModel))]
public sealed class CompleteMergedModelCommand : PublishingCommand
{
    private const string LocalSet = "Local";

    /// <summary>The destination that the parts were saved to.</summary>
    [Parameter(Mandatory = true, Position = 0)]
    [Alias("SaveDirectory", "OutputPath")]
    [ValidateNotNullOrEmpty]
    [ArgumentCompleter(typeof(FolderCompleter))]
    public string Destination { get; set; } = "";

    /// <summary>Replaces a model at the destination. The previous model stays until the new one is complete.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    /// <summary>Publishes the model: the repository on the Hub (org/name) that gets it as one commit. Parts that were sent there are
    /// committed, and no model comes to the destination; others are completed there first.</summary>
    [Parameter(Mandatory = true, ParameterSetName = HubSet)]
    [Alias("RepoId")]
    [ValidateNotNullOrEmpty]
    public string? PushToHub { get; set; }

    /// <summary>Does not wait until the files are on the disk. A loss of power within the next minute can then leave neither the new model
    /// nor, with -Force, the previous one: files that are empty, short or full of zeros. Test-MergedModel names them.</summary>
    [Parameter]
    public SwitchParameter NoSync { get; set; }

    /// <summary>The maximum number of threads; the number of processors by default.</summary>
    [Parameter]
    [ValidateRange(1, 1024)]
    [ArgumentCompleter(typeof(ThreadsCompleter))]
    [PSDefaultValue(Help = "The number of processors")]
    public int ThrottleLimit { get; set; } = Environment.ProcessorCount;

    private protected override void End()
    {
        var path = Unresolved(Destination, nameof(Destination));
        var parts = Engine(() => SavedParts.Find(path));
        var target = PushToHub is null ? null : Engine(() => HubSession.Target(PushToHub, nameof(PushToHub), this));
        if (parts.Plan.Repository is { } repository && target?.Repository != repository)
        {
            Refuse(nameof(PushToHub), $"The parts for '{Destination}' were sent to '{repository}'.", $"Give -PushToHub {repository}.");
        }

        using var hub = target is null ? null : Engine(() => new HubSession(this, Token, target));
        if (parts.Plan.Repository is null)
        {
            Complete(parts, hub);
        }
        else
        {
            Commit(parts, hub!);
        }
    }

    private void Complete(SavedParts parts, HubSession? hub)
    {
        var model = Engine(() => new ModelCompletion(parts, Force));
        var what = $"Complete {What(parts)}";
        var baseId = PublishedFiles.BaseOf(parts.FilesFolder);
        if (hub is null ? !ShouldProcess(parts.Given, what)
            : !Confirm(what, parts, Engine(() => PublishedFiles.Open(parts.FilesFolder, baseId, [], [])), baseId, hub))
        {
            return;
        }

        var clock = Stopwatch.StartNew();
        using (var progress = new UploadProgressRecord(WriteProgress, $"Completing {parts.Given}", () => { }, TimeProvider.System))
        {
            using var signals = new EndingSignals();
            using var stop = CancellationTokenSource.CreateLinkedTokenSource(Stop, signals.Ending);
            Emit(Engine(() => model.Complete(SystemDisk.Instance, !NoSync, ThrottleLimit, Report, stop.Token)), model.Path, clock);

            void Report(long done, long total) => progress.Report(new UploadProgress("Verifying", done, total));
        }

        if (hub is not null)
        {
            WriteObject(Engine(() => hub.PublishSaved(
                parts.Given, () => hub.Files(model.Path, baseId, []), isAdapter: false, Stop)));
        }
    }

    private void Commit(SavedParts parts, HubSession hub)
    {
        var commit = Engine(() => new PartsCommit(parts));
        if (!Confirm($"Commit {What(parts)}", parts, commit.Others, commit.BaseId, hub))
        {
            return;
        }

        var clock = Stopwatch.StartNew();
        using var signals = new EndingSignals();
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Stop, signals.Ending);
        var result = Engine(() => hub.Run((publisher, plan, progress) =>
            commit.Run(publisher, plan, SystemDisk.Instance, progress, stop.Token)));
        Emit(commit.Shards, result.Url.Replace("/commit/", "/resolve/", StringComparison.Ordinal) + '/', clock);
        WriteObject(new PublishedModel(result, clock.Elapsed));
    }

    // Finds what the Hub would refuse before the question.
    private bool Confirm(string what, SavedParts parts, List<UploadFile> others, string? baseId, HubSession hub)
    {
        Engine(() => hub.Plan([.. parts.Names, .. others.Select(f => f.Name)],
            [.. others.OrderByDescending(f => f.Name == CardText.FileName).Take(1)], baseId, Stop));
        var bytes = others.Sum(f => f.Size) + parts.Names.Sum(n => parts.Records.Read(n, parts.Fingerprint)?.Bytes ?? 0);
        var summary = hub.Summary(parts.Names.Count + others.Count, bytes);
        return ShouldProcess(
            $"{what}. {summary}.{hub.Deleted()}", $"{what}? {summary}.{hub.Deleted()}", "Complete-MergedModel");
    }

    private void Emit(IReadOnlyList<ShardRecord> shards, string place, Stopwatch clock) =>
        WriteObject(shards.Select(s => new SavedModelShard(s, place, clock.Elapsed)), enumerateCollection: true);

    private static string What(SavedParts parts) => $"{parts.Plan.Method}: {Amount.Text(parts.Plan.Shards.Length, "shard")} of "
        + Amount.Text(parts.Plan.Parts, "part");
}
