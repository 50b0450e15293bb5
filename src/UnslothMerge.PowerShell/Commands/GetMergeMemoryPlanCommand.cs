using System.Security;
using UnslothMerge.Files;
using UnslothMerge.Hub.Fetching;
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

    /// <summary>The directory of the base model, or its name on the Hub.</summary>
    [Parameter(Mandatory = true, Position = 0, ParameterSetName = BaseSet, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    [ArgumentCompleter(typeof(ModelCompleter))]
    public string Base { get; set; } = "";

    /// <summary>The directories of the adapters, or their names on the Hub.</summary>
    [Parameter(Position = 1, ParameterSetName = BaseSet, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    [Alias("Path", "PSPath")]
    [ArgumentCompleter(typeof(AdapterCompleter))]
    public string[]? Adapter { get; set; }

    /// <summary>One factor per adapter; 1 by default.</summary>
    [Parameter(ParameterSetName = BaseSet, ValueFromPipelineByPropertyName = true)]
    public double[]? Weight { get; set; }

    /// <summary>The tensors of Merge-LoraModel, with their options, filters and strengths.</summary>
    [Parameter(Mandatory = true, ParameterSetName = PipelineSet, ValueFromPipeline = true)]
    public MergeTensor? InputObject { get; set; }

    /// <summary>The directory of the model; the current location by default. Its disk is checked for free space and speed.</summary>
    [Parameter]
    [Alias("SaveDirectory", "OutputPath")]
    [ValidateNotNullOrEmpty]
    public string Destination { get; set; } = ".";

    /// <summary>The revision of the model on the Hub, if only one has none in its name: a branch, a tag, a commit, or refs/pr/1.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? Revision { get; set; }

    /// <summary>The folder of the adapter in its repository on the Hub, such as checkpoint-500.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? Subfolder { get; set; }

    /// <summary>Reads the weights of a base on the Hub while they are merged, and keeps nothing of them, as when the disk of the cache
    /// has no room.</summary>
    [Parameter(ParameterSetName = BaseSet, ValueFromPipelineByPropertyName = true)]
    public SwitchParameter Stream { get; set; }

    /// <summary>Asks nothing of the Hub: models that are named must be in the cache. HF_HUB_OFFLINE does the same.</summary>
    [Parameter]
    public SwitchParameter Offline { get; set; }

    /// <summary>An access token of the Hub; by default that of HF_TOKEN or of hf auth login.</summary>
    [Parameter]
    [PSDefaultValue(Help = "That of HF_TOKEN or of hf auth login")]
    public SecureString? Token { get; set; }

    protected override void BeginProcessing()
    {
        base.BeginProcessing();
        Hub = new HubOptions { Offline = Offline, Token = Token, Revision = Revision, Subfolder = Subfolder };
    }

    protected override void ProcessRecord()
    {
        if (ParameterSetName == PipelineSet)
        {
            Engine(() => _input.Add(InputObject));
            return;
        }

        var (name, names) = Engine(() => Hub.Complete(Base, Adapter ?? []));
        var model = Open(ResolveBase(name!, Stream));
        var adapters = ResolveSome(names, nameof(Adapter), HubUse.Adapter);
        var merge = Engine(() => MergePlanner.Plan(model, MergeInput.Steps(adapters, Weight)));
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
        _ = PendingDownloads.StreamWithoutRoom(merge.InputFiles);
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
            var download = PendingDownloads.Of(merge.InputFiles).SelectMany(d => d.Files).ToList();
            var remote = download.Concat(PendingDownloads.Of(merge.InputFiles, streamed: true).SelectMany(d => d.Files)).ToList();
            return new MergeMemoryPlan(
                merge, memory, copied, DiskSpace.At(destination), DiskSpace.At(Options.TemporaryLocation),
                speed?.Estimate(memory, device?.Plan), download.Sum(f => f.Length), PendingDownloads.Estimate(remote, Stop));
        }));
    }
}
