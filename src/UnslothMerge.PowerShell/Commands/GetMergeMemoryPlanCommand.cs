using System.Security;
using UnslothMerge.Files;
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
    private readonly PipedAdapters _piped = new();
    private Part? _part;

    /// <summary>The directory of the base model, or its name on the Hub.</summary>
    [Parameter(Mandatory = true, Position = 0, ParameterSetName = BaseSet, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(ModelCompleter))]
    public string Base { get; set; } = "";

    /// <summary>The directories of the adapters, or their names on the Hub; several from the pipeline form one merge.</summary>
    [Parameter(Position = 1, ParameterSetName = BaseSet, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    [Alias("Path")]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(AdapterCompleter))]
    public string[]? Adapter { get; set; }

    /// <summary>The directories of the adapters as they are written, without wildcards.</summary>
    [Parameter(ParameterSetName = BaseSet, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    [Alias("PSPath", "LP")]
    [ArgumentCompleter(typeof(AdapterCompleter))]
    public string[]? LiteralPath { get; set; }

    /// <summary>One factor per adapter; 1 by default.</summary>
    [Parameter(ParameterSetName = BaseSet, ValueFromPipelineByPropertyName = true)]
    [ArgumentCompleter(typeof(WeightCompleter))]
    public double[]? Weight { get; set; }

    /// <summary>The tensors of Merge-LoraModel, with their options, filters and strengths.</summary>
    [Parameter(ParameterSetName = PipelineSet, ValueFromPipeline = true)]
    [ValidateNotNull]
    public MergeTensor[]? InputObject { get; set; }

    /// <summary>The directory of the model; by default one below the current location. Its disk is checked for free space and speed, and
    /// that it can be written.</summary>
    [Parameter]
    [Alias("SaveDirectory", "OutputPath")]
    [ValidateNotNullOrEmpty]
    [ArgumentCompleter(typeof(FolderCompleter))]
    public string Destination { get; set; } = ".";

    /// <summary>Plans one part of a merge that several workers save: 3/16, or env in a job of an array.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? Part { get; set; }

    /// <summary>Plans each part of a merge that so many workers save.</summary>
    [Parameter]
    [ValidateRange(1, int.MaxValue)]
    public int PartCount { get; set; }

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
    [TokenTransformation]
    [ValidateNotNull]
    [PSDefaultValue(Help = "That of HF_TOKEN or of hf auth login")]
    public SecureString? Token { get; set; }

    private protected override void Begin()
    {
        base.Begin();
        _part = Part is null ? null : Engine(() => Planning.Part.Parse(Part, Environment.GetEnvironmentVariable));
        if (Part is not null && IsGiven(nameof(PartCount)))
        {
            Refuse(nameof(PartCount), "-PartCount plans all parts, and -Part one of them.", "Leave one of them out.");
        }

        if (ParameterSetName == PipelineSet && !MyInvocation.ExpectingInput && InputObject is null)
        {
            Refuse(
                nameof(Base), "There is no merge to plan.",
                "Give a base and its adapter: Get-MergeMemoryPlan ./base ./adapter, or pipe the output of Merge-LoraModel here.");
        }

        Hub = new HubOptions { Offline = Offline, Token = Token, Revision = Revision, Subfolder = Subfolder };
        Engine(() => _piped.Begin(MyInvocation));
    }

    private protected override void Process()
    {
        if (ParameterSetName == PipelineSet)
        {
            Engine(() => Array.ForEach(InputObject ?? [], _input.Add));
        }
        else if (!_piped.Collect(LiteralPath ?? Adapter, Weight))
        {
            Plan(LiteralPath ?? Adapter ?? [], Weight);
        }
    }

    private protected override void End()
    {
        if (Engine(_piped.All) is (var adapters, var weights))
        {
            Plan(adapters, weights ?? Weight);
        }

        if (_input.Plan is { } merge)
        {
            Adopt(_input.Output);
            Emit(merge, Engine(() => _input.Select(allowPartial: true, Destination)), TimeSpan.Zero);
        }
    }

    private void Plan(IReadOnlyList<string> given, double[]? weights)
    {
        var clock = Stopwatch.StartNew();
        var (name, names) = Engine(() => Hub.Complete(Base, given));
        var model = Open(ResolveBase(name!, Stream));
        var adapters = ResolveSome(names, nameof(Adapter), HubUse.Adapter, LiteralPath is not null);
        var merge = Engine(() => MergePlanner.Plan(model, MergeInput.Steps(adapters, weights)));
        var planning = clock.Elapsed;
        Report(merge);
        Emit(merge, merge.Tensors, planning);
    }

    private void Emit(MergePlan merge, IReadOnlyList<LogicalTensor> tensors, TimeSpan planning)
    {
        var clock = Stopwatch.StartNew();
        _ = PendingDownloads.StreamWithoutRoom(merge.InputFiles);
        var destination = Unresolved(Destination, nameof(Destination));

        // The method lora copies the adapter's files and touches no tensor of the model.
        var write = Engine(() => WritePlan.Create(merge, Method == nameof(SaveMethod.lora) ? [] : tensors, Options.Write));
        var copied = Method == nameof(SaveMethod.lora) ? merge.Steps.Sum(s => new FileInfo(s.Adapter.Weights.Path).Length) : 0;
        if (Method == nameof(SaveMethod.lora) && (_part is not null || PartCount > 0))
        {
            Refuse(nameof(Part), "The method lora saves an adapter as it is: there are no parts.", "Leave it out.");
        }

        using var device = OpenDevice(write);
        Engine(() =>
        {
            var parts = Parts(write).Select(
                p => (p.Part, Memory: ExecutionPlan.For(p.Write, Options.Memory.OfHost(), ThrottleLimit, device?.Need))).ToList();
            planning += clock.Elapsed;
            var (speed, obstacle, beside) = Probe(destination, merge);
            var shared = beside is null ? [] : SharedBlocks.Find(write, beside);
            var disk = write.Bytes + copied - shared.Sum(s => s.OriginBytes);
            var times = parts.ConvertAll(p => speed?.Estimate(p.Memory, device?.Plan, Of(p.Memory).Sum(s => s.OriginBytes)) + planning);
            var download = PendingDownloads.Of(merge.InputFiles).SelectMany(d => d.Files).ToList();
            var remote = download.Concat(PendingDownloads.Of(merge.InputFiles, streamed: true).SelectMany(d => d.Files)).ToList();
            var downloading = PendingDownloads.Estimate(remote, Stop);
            foreach (var ((part, memory), time) in parts.Zip(times))
            {
                WriteObject(new MergeMemoryPlan(
                    merge, memory, copied, Of(memory), disk, DiskSpace.At(destination), DiskSpace.At(Options.TemporaryLocation), time,
                    obstacle)
                {
                    Part = part?.ToString(),
                    WallSeconds = (PartCount > 0 ? times.Max() + speed?.Reading(write) : time)?.TotalSeconds,
                    Method = Method,
                    MaxShardSize = MaxShardSize,
                    Tensors = [.. tensors.Select(t => merge.Tensors[t.Ordinal])],
                    Strengths = _input.Strengths,
                    Planned = Planned,
                    DownloadBytes = download.Sum(f => f.Length),
                    DownloadSeconds = downloading?.TotalSeconds,
                });
            }

            List<WriteShard> Of(ExecutionPlan part) => [.. shared.Where(s => part.Write.Shards.Any(w => w.Name == s.Name))];
        });
    }

    private IEnumerable<(Part? Part, WritePlan Write)> Parts(WritePlan write) =>
        _part is null && PartCount == 0 ? [(null, write)]
            : (_part is not null ? [_part] : Enumerable.Range(1, PartCount).Select(i => new Part(i, PartCount)))
                .Select(p => ((Part?)p, write.Of(PartSplit.ShardsOf(write, p))));

    // A model is written beside its destination. What Save-MergedModel would refuse is refused here in words, and nothing is written there.
    private (SpeedProbe? Speed, string? Obstacle, string? Beside) Probe(string destination, MergePlan merge)
    {
        var beside = destination;
        if (MyInvocation.BoundParameters.ContainsKey(nameof(Destination)))
        {
            try
            {
                var inputs = merge.Steps.Select(s => ("adapter", s.Adapter.Path)).Prepend(("base", merge.Base.Path));
                _ = Saving.Destination.Check(destination, inputs, force: true, Method == nameof(SaveMethod.lora));
            }
            catch (MergeException e) when (e.Error == MergeError.InvalidDestination)
            {
                return (null, e.Message, null);
            }

            beside = Path.GetDirectoryName(destination) ?? destination;
        }

        return RealPath.IsWithin(RealPath.Of(DiskSpace.Existing(beside)), RealPath.Of(merge.Base.Path)) ? (null, null, null)
            : SpeedProbe.At(beside) is { } speed ? (speed, null, beside)
            : (null, $"'{DiskSpace.Existing(beside)}' cannot be written", null);
    }
}
