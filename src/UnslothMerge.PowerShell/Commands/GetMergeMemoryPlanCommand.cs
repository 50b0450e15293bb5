using System.Management.Automation;
using UnslothMerge.Models;
using UnslothMerge.Planning;
using UnslothMerge.PowerShell.Common;
using UnslothMerge.Saving;

namespace UnslothMerge.PowerShell.Commands;

/// <summary>Tells, before anything is written, what a merge needs and whether it fits. Reads headers only.</summary>
[Cmdlet(VerbsCommon.Get, "MergeMemoryPlan")]
[OutputType(typeof(MergeMemoryPlan))]
public sealed class GetMergeMemoryPlanCommand : EngineCommand
{
    /// <summary>The directory of the base model.</summary>
    [Parameter(Mandatory = true, Position = 0, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    public string Base { get; set; } = "";

    /// <summary>The adapters' directories.</summary>
    [Parameter(Position = 1, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    public string[]? Adapter { get; set; }

    /// <summary>A factor for each adapter; 1 where none is given.</summary>
    [Parameter(ValueFromPipelineByPropertyName = true)]
    public double[]? Weight { get; set; }

    /// <summary>Where the model would be saved; the current location by default. Only its free space is looked at.</summary>
    [Parameter]
    [Alias("SaveDirectory", "OutputPath")]
    [ValidateNotNullOrEmpty]
    public string Destination { get; set; } = ".";

    /// <summary>What would be saved.</summary>
    [Parameter]
    [Alias("SaveMethod")]
    public SaveMethod Method { get; set; } = SaveMethod.merged_16bit;

    /// <summary>The dtype of the floating-point tensors.</summary>
    [Parameter]
    [ValidateSet("auto", "bfloat16", "float16", "float32", "BF16", "F16", "F32")]
    public string DType { get; set; } = OutputOptions.Auto;

    /// <summary>The largest file of weights.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string MaxShardSize { get; set; } = OutputOptions.DefaultMaxShardSize;

    /// <summary>The memory that may be taken: a fraction of what is free, or a size for the whole process.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string MaximumMemoryUsage { get; set; } = MemoryLimit.Default;

    /// <summary>
    /// Where a tensor that cannot be streamed would be spilled; the system's temporary directory by default. The plan tells how much that is
    /// (nothing, for every kind of change there is today) and how much is free there.
    /// </summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string TemporaryLocation { get; set; } = Path.GetTempPath();

    /// <summary>The most threads.</summary>
    [Parameter]
    [ValidateRange(1, 1024)]
    public int ThrottleLimit { get; set; } = Environment.ProcessorCount;

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        var path = ResolveOne(Base, nameof(Base));
        var adapters = ResolveSome(Adapter ?? [], nameof(Adapter));
        var (destination, temporary) = (Unresolved(Destination, nameof(Destination)), Unresolved(TemporaryLocation, nameof(TemporaryLocation)));
        WriteObject(Engine(() =>
        {
            var merge = MergePlanner.Plan(ModelDirectory.Open(path), MergeInput.Steps(adapters, Weight));

            // The method lora copies the adapter's files and touches no tensor of the model.
            var tensors = Method == SaveMethod.lora ? [] : merge.Tensors;
            var write = WritePlan.Create(merge, tensors, OutputOptions.Read(DType, MaxShardSize) with { FourBit = OutputOptions.ReadFourBit(Method, null, null, null, null) });
            var copied = Method == SaveMethod.lora ? merge.Steps.Sum(s => new FileInfo(s.Adapter.Weights.Path).Length) : 0;
            var memory = MemoryPlan.For(write, OutputOptions.ReadLimit(MaximumMemoryUsage), ThrottleLimit);
            return new MergeMemoryPlan(merge, write, memory, copied, DiskSpace.At(destination), DiskSpace.At(temporary));
        }));
    }
}
