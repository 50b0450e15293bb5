using UnslothMerge.IO;
using UnslothMerge.Saving;

namespace UnslothMerge.PowerShell.Commands;

// The default set is the one that takes its input by value, as that of Merge-LoraModel is, and for its reason.

/// <summary>Shows the memory, disk space and time that a merge needs, and whether it fits. Reads headers only.</summary>
[Cmdlet(VerbsCommon.Get, "MergeMemoryPlan", DefaultParameterSetName = PipelineSet)]
[OutputType(typeof(MergeMemoryPlan))]
public sealed class GetMergeMemoryPlanCommand : OutputCommand
{
    private const string BaseSet = "Base";
    private const string PipelineSet = "Pipeline";
    private readonly MergeInput _input = new();

    /// <summary>The directory of the base model.</summary>
    [Parameter(Mandatory = true, Position = 0, ParameterSetName = BaseSet, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    [ArgumentCompleter(typeof(ModelCompleter))]
    public string Base { get; set; } = "";

    /// <summary>The directories of the adapters.</summary>
    [Parameter(Position = 1, ParameterSetName = BaseSet, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    [Alias("Path", "PSPath")]
    [ArgumentCompleter(typeof(AdapterCompleter))]
    public string[]? Adapter { get; set; }

    /// <summary>One factor per adapter; 1 by default.</summary>
    [Parameter(ParameterSetName = BaseSet, ValueFromPipelineByPropertyName = true)]
    [ArgumentCompleter(typeof(WeightCompleter))]
    public double[]? Weight { get; set; }

    /// <summary>The tensors of Merge-LoraModel, with their options, filters and strengths.</summary>
    [Parameter(Mandatory = true, ParameterSetName = PipelineSet, ValueFromPipeline = true)]
    public MergeTensor? InputObject { get; set; }

    /// <summary>The directory of the model; the current location by default. Its disk is checked for free space and speed.</summary>
    [Parameter]
    [Alias("SaveDirectory", "OutputPath")]
    [ValidateNotNullOrEmpty]
    [ArgumentCompleter(typeof(FolderCompleter))]
    public string Destination { get; set; } = ".";

    protected override void ProcessRecord()
    {
        if (ParameterSetName == PipelineSet)
        {
            Engine(() => _input.Add(InputObject));
            return;
        }

        var path = ResolveOne(Base, nameof(Base));
        var adapters = ResolveSome(Adapter ?? [], nameof(Adapter));
        var merge = Engine(() => MergePlanner.Plan(ModelDirectory.Open(path), MergeInput.Steps(adapters, Weight)));
        Emit(merge, merge.Tensors);
    }

    protected override void EndProcessing()
    {
        if (_input.Plan is { } merge)
        {
            Emit(merge, Engine(() => _input.Select(allowPartial: true, Destination)));
        }
    }

    private void Emit(MergePlan merge, IReadOnlyList<LogicalTensor> tensors)
    {
        var destination = Unresolved(Destination, nameof(Destination));

        // The method lora copies the adapter's files and touches no tensor of the model.
        var write = Engine(() => WritePlan.Create(merge, Method == SaveMethod.lora ? [] : tensors, Options.Write));
        var copied = Method == SaveMethod.lora ? merge.Steps.Sum(s => new FileInfo(s.Adapter.Weights.Path).Length) : 0;
        using var device = OpenDevice(write);
        WriteObject(Engine(() =>
        {
            var memory = ExecutionPlan.For(write, Options.Memory.OfHost(), ThrottleLimit, device?.Need);

            // The model is written beside its destination, and the base's own directory is never written to.
            var beside = Path.GetDirectoryName(destination) ?? destination;
            var speed = RealPath.IsWithin(RealPath.Of(DiskSpace.Existing(beside)), RealPath.Of(merge.Base.Path))
                ? null
                : SpeedProbe.At(beside);
            return new MergeMemoryPlan(
                merge, memory, copied, DiskSpace.At(destination), DiskSpace.At(Options.TemporaryLocation),
                speed?.Estimate(memory, device?.Plan));
        }));
    }
}
