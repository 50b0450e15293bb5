using System.Management.Automation;
using UnslothMerge.IO;
using UnslothMerge.Models;
using UnslothMerge.Planning;
using UnslothMerge.PowerShell.Common;
using UnslothMerge.PowerShell.Completion;
using UnslothMerge.Saving;

namespace UnslothMerge.PowerShell.Commands;

/// <summary>Tells, before anything is written, what a merge needs and whether it fits. Reads headers only.</summary>
[Cmdlet(VerbsCommon.Get, "MergeMemoryPlan")]
[OutputType(typeof(MergeMemoryPlan))]
public sealed class GetMergeMemoryPlanCommand : OutputCommand
{
    /// <summary>The directory of the base model.</summary>
    [Parameter(Mandatory = true, Position = 0, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    [ArgumentCompleter(typeof(ModelCompleter))]
    public string Base { get; set; } = "";

    /// <summary>The adapters' directories.</summary>
    [Parameter(Position = 1, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    [Alias("Path", "PSPath")]
    [ArgumentCompleter(typeof(AdapterCompleter))]
    public string[]? Adapter { get; set; }

    /// <summary>A factor for each adapter; 1 where none is given.</summary>
    [Parameter(ValueFromPipelineByPropertyName = true)]
    public double[]? Weight { get; set; }

    /// <summary>Where the model would be saved; the current location by default. Its free space is looked at, and how fast its disk is.</summary>
    [Parameter]
    [Alias("SaveDirectory", "OutputPath")]
    [ValidateNotNullOrEmpty]
    public string Destination { get; set; } = ".";

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        var path = ResolveOne(Base, nameof(Base));
        var adapters = ResolveSome(Adapter ?? [], nameof(Adapter));
        var (destination, temporary) = (Unresolved(Destination, nameof(Destination)), Temporary);
        var limit = Engine(() => OutputOptions.ReadLimit(MaximumMemoryUsage));
        var (merge, write, copied) = Engine(() =>
        {
            var merge = MergePlanner.Plan(ModelDirectory.Open(path), MergeInput.Steps(adapters, Weight));

            // The method lora copies the adapter's files and touches no tensor of the model.
            var tensors = Method == SaveMethod.lora ? [] : merge.Tensors;
            var write = WritePlan.Create(merge, tensors, OutputOptions.Read(DType, MaxShardSize) with { Quantization = OutputOptions.ReadMethod(Method, DType, null, null, null, null, null) });
            return (merge, write, Method == SaveMethod.lora ? merge.Steps.Sum(s => new FileInfo(s.Adapter.Weights.Path).Length) : 0);
        });
        using var device = OpenDevice(write);
        WriteObject(Engine(() =>
        {
            var memory = MemoryPlan.For(write, limit, ThrottleLimit, device?.Need, temporary);

            // The model is written beside its destination, and the base's own directory is never written to.
            var beside = Path.GetDirectoryName(destination) ?? destination;
            var speed = RealPath.IsWithin(RealPath.Of(DiskSpace.Existing(beside)), RealPath.Of(path)) ? null : SpeedProbe.At(beside);
            return new MergeMemoryPlan(merge, memory, copied, DiskSpace.At(destination), DiskSpace.At(temporary), speed?.Estimate(memory, device?.Plan));
        }));
    }
}
