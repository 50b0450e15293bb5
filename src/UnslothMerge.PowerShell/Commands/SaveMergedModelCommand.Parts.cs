using UnslothMerge.Hub.Publishing;
using UnslothMerge.Saving;
using UnslothMerge.Saving.Parts;

namespace UnslothMerge.PowerShell.Commands;

/// <content>A part of a model that several workers save.</content>
public sealed partial class SaveMergedModelCommand
{
    private Part? _part;

    /// <summary>Saves one part of the model, of several that workers save at any time, on any machine that sees the destination: 3/16; or
    /// env, in a job of an array of Slurm, Kubernetes, AWS Batch or PBS (env/16 where the engine does not say how many there are).
    /// Complete-MergedModel makes the model of them. With -PushToHub the part's shards are sent and not committed, and beside the
    /// destination lie only records of them. The default of -Device is then cpu, so that all machines write the same bytes.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? Part { get; set; }

    private void BeginPart()
    {
        if (Part is null)
        {
            return;
        }

        if (PushToHub is not null)
        {
            RequirePlaceOfRecords();
        }

        _part = Engine(() => Planning.Part.Parse(Part, Environment.GetEnvironmentVariable));

        if (!IsGiven(nameof(Device)))
        {
            Device = "cpu";
        }
    }

    private void RequirePlaceOfRecords()
    {
        if (Destination is null)
        {
            Refuse(nameof(Destination), "Parts that are sent to the Hub need a place for their records, which all workers see.",
                "Give -Destination: the same to all parts and to Complete-MergedModel.");
        }

        if (new[] { nameof(CommitMessage), nameof(CommitDescription) }.FirstOrDefault(IsGiven) is { } parameter)
        {
            Refuse(parameter, $"Parts are not committed, so -{parameter} would have no effect.", "Give it to Complete-MergedModel.");
        }
    }

    // With a repository, the target is a scratch.
    private void SavePart(ExecutionPlan memory, Destination target, ModelExtras extras, Devices.DeviceRun? device, HubSession? hub)
    {
        var shards = Engine(() => PartSplit.ShardsOf(memory.Write, _part!));
        var merge = memory.Write.Merge;
        var shared = hub is null ? target : Engine(() => Saving.Destination.Beside(
            Unresolved(Destination!, nameof(Destination)), merge.Steps.Select(s => ("adapter", s.Adapter.Path))
                .Prepend(("base", merge.Base.Path))));
        var what = $"Write part {_part} of {Method}: {shards.Length} of {Amount.Text(memory.Write.Shards.Length, "shard")}, "
            + $"{shards.Sum(s => s.Tensors.Length)} tensors ({shards.Sum(s => s.Tensors.Count(t => t.Tensor.IsChanged))} changed), "
            + ByteSize.Text(shards.Sum(s => s.Layout.Length));
        if (hub is not null)
        {
            PlanPublication(Engine(() => SaveDescription.OfModel(memory.Write, Method, extras)), merge, extras, hub);
            what += $", sent to '{PushToHub}' without a commit";
        }

        if (!ShouldProcess(shared.Given, what))
        {
            return;
        }

        Prepare(memory);
        using var progress = new MergeProgressRecord(WriteProgress, $"Saving part {_part} of {shared.Given}", shards, TimeProvider.System);
        using var signals = new EndingSignals();
        var clock = Stopwatch.StartNew();
        var run = Run(memory, device, signals);
        var saved = Engine(() => hub is null
                ? new PartOnDisk(extras, shared, Method, _part!, run).Save(progress, Stop)
                : hub.Run((publisher, plan, sending) =>
                {
                    OpenScratch(shards);
                    return new PartOnHub(publisher, plan, target.Path, sending, extras, shared, Method, _part!, run).Save(progress, Stop);
                }))
            .Select(s => new SavedModelShard(s, memory.Write.Merge, clock.Elapsed)).ToList();
        WriteObject(saved, enumerateCollection: true);
        WarnOfQuantization(saved);
        WarnOfLostDeltas(saved);
    }
}
