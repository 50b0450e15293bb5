using UnslothMerge.Saving;
using UnslothMerge.Saving.Parts;

namespace UnslothMerge.PowerShell.Commands;

/// <content>A part of a model that several workers save.</content>
public sealed partial class SaveMergedModelCommand
{
    private Part? _part;

    /// <summary>Saves one part of the model, of several that workers save at any time, on any machine that sees the destination: 3/16; or
    /// env, in a job of an array of Slurm, Kubernetes, AWS Batch or PBS (env/16 where the engine does not say how many there are).
    /// Complete-MergedModel makes the model of them. The default of -Device is then cpu, so that all machines write the same
    /// bytes.</summary>
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
            Refuse(nameof(PushToHub), "A part is no model that could be published.",
                "Save the parts, run Complete-MergedModel, and then Publish-MergedModel.");
        }

        _part = Engine(() => Planning.Part.Parse(Part, Environment.GetEnvironmentVariable));

        if (!IsGiven(nameof(Device)))
        {
            Device = "cpu";
        }
    }

    private void SavePart(ExecutionPlan memory, Destination target, ModelExtras extras, Devices.DeviceRun? device)
    {
        var shards = Engine(() => PartSplit.ShardsOf(memory.Write, _part!));
        var what = $"Write part {_part} of {Method}: {shards.Length} of {Amount.Text(memory.Write.Shards.Length, "shard")}, "
            + $"{shards.Sum(s => s.Tensors.Length)} tensors ({shards.Sum(s => s.Tensors.Count(t => t.Tensor.IsChanged))} changed), "
            + ByteSize.Text(shards.Sum(s => s.Layout.Length));
        if (!ShouldProcess(target.Given, what))
        {
            return;
        }

        Prepare(memory);
        var progress = new MergeProgressRecord(WriteProgress, $"Saving part {_part} of {target.Given}", shards, TimeProvider.System);
        var clock = Stopwatch.StartNew();
        try
        {
            using var signals = new EndingSignals();
            var saved = Engine(() => PartSaver.Save(
                extras, target, Method.ToString(), _part!, Run(memory, device, signals), progress, Stop))
                .Select(s => new SavedModelShard(s, clock.Elapsed)).ToList();
            WriteObject(saved, enumerateCollection: true);
            WarnOfQuantization(saved);
            WarnOfLostDeltas(saved);
        }
        finally
        {
            progress.Complete();
        }
    }
}
