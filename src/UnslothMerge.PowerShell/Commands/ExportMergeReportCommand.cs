using UnslothMerge.Execution;
using UnslothMerge.PowerShell.Reports;
using UnslothMerge.Recipes;

namespace UnslothMerge.PowerShell.Commands;

/// <summary>Writes a report of a merge as one HTML page: what changed, by layer and module, from what, and whether it is right.</summary>
[Cmdlet(VerbsData.Export, "MergeReport", SupportsShouldProcess = true)]
[OutputType(typeof(FileInfo))]
public sealed class ExportMergeReportCommand : EngineCommand
{
    private readonly List<SavedModelShard> _shards = [];
    private readonly List<ModelCheck> _checks = [];
    private MergeMemoryPlan? _plan;

    /// <summary>The directory of the saved model. Not needed if its shards come from the pipeline; a single path is then the
    /// file.</summary>
    [Parameter(Position = 0)]
    [Alias("Destination")]
    [ValidateNotNullOrEmpty]
    [ArgumentCompleter(typeof(ModelCompleter))]
    public string? Model { get; set; }

    /// <summary>The HTML file.</summary>
    [Parameter(Position = 1)]
    [ValidateNotNullOrEmpty]
    public string? Path { get; set; }

    /// <summary>The output of Save-MergedModel, Test-MergedModel and Get-MergeMemoryPlan. Without the shards of Save-MergedModel, the
    /// changes are measured: base and adapters, found by merge.json, are read once more.</summary>
    [Parameter(ValueFromPipeline = true)]
    [AllowNull]
    [AllowEmptyCollection]
    public PSObject?[]? InputObject { get; set; }

    /// <summary>Replaces a file.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    private protected override void Process()
    {
        if (MyInvocation.ExpectingInput || InputObject is not null)
        {
            Array.ForEach(InputObject ?? [null], Add);
        }
    }

    private void Add(PSObject? item)
    {
        switch (item?.BaseObject)
        {
            case SavedModelShard shard:
                _shards.Add(shard);
                break;
            case ModelCheck check:
                _checks.Add(check);
                break;
            case MergeMemoryPlan plan:
                _plan = plan;
                break;
            case var other:
                Refuse(
                    nameof(InputObject), $"The input is {(other is null ? "null" : $"a {other.GetType().FullName}")}.",
                    "Pipe what Save-MergedModel, Test-MergedModel or Get-MergeMemoryPlan emits here.");
                break;
        }
    }

    private protected override void End()
    {
        var saved = _shards.Select(s => s.Path).Concat(_checks.Select(c => System.IO.Path.Combine(c.Path, "."))).FirstOrDefault();
        var (given, file) = Path is null && saved is not null ? (null, Model) : (Model, Path);
        if ((given ?? saved) is null || file is null)
        {
            Refuse(
                given is null ? nameof(Model) : nameof(Path), $"There is no {((given ?? saved) is null ? "model" : "file")} given.",
                "Write: Export-MergeReport ./out ./report.html");
            return;
        }

        var model = given is null ? System.IO.Path.GetDirectoryName(saved)! : ResolveOne(given, nameof(Model), HubUse.Whole).Directory;
        var target = Unresolved(file, nameof(Path));
        RequireFree(target, Force);
        if (ShouldProcess(target, $"Write a report of '{model}'"))
        {
            WriteFile(target, () => ReportPage.Of(_shards.Count > 0 ? FromShards(model) : Measured(model)));
        }
    }

    private protected override void Advise(MergeException error)
    {
        if (error.Error == MergeError.SourceNotFound)
        {
            error.Advice = "Pipe what Save-MergedModel emits here, or go to a folder that base and adapters are below.";
        }
    }

    private MergeReport FromShards(string model)
    {
        using var process = System.Diagnostics.Process.GetCurrentProcess();
        return Report(model, [.. _shards.SelectMany(s => s.Tensors).Select(ReportTensor.Of)]) with
        {
            PeakBytes = process.PeakWorkingSet64,
            Sources = _plan is null ? _shards[0].Sources : [_plan.Base, .. _plan.Adapter],
        };
    }

    private MergeReport Measured(string model)
    {
        var (plan, tensors) = RecordedMerge.Plan(model, Unresolved(".", nameof(Path)));
        var write = WritePlan.Create(plan, tensors, new WriteOptions(null, long.MaxValue));
        var run = ExecutionPlan.For(write, MemoryAmount.Parse(MemoryAmount.Default).OfHost(), Environment.ProcessorCount);
        run.RequireFit();
        WriteVerbose($"Measuring {write.Tensors.Count(t => t.Tensor.Terms.Length > 0)} tensors with {run.Workers} workers.");
        var changes = ChangeMeasurement.Measure(run, Stop);
        var stored = Formats.StoredFormats.Read(ModelDirectory.Open(model))
            .ToDictionary(t => t.Name, t => t.Source, StringComparer.Ordinal);
        return Report(model, [.. write.Tensors.Select(t => new ReportTensor(
            t.Tensor.Name,
            (t.Verbatim is null ? t.Tensor.Action : TensorAction.Copy).ToString(),
            new TensorShape(t.Tensor.Shape).ToString(),
            stored.GetValueOrDefault(t.Tensor.Name)?.Format ?? "",
            stored.GetValueOrDefault(t.Tensor.Name)?.Inputs.Sum(i => i.Length) ?? 0,
            changes.TryGetValue(t.Tensor.Name, out var change) ? change : null, null))]) with
        {
            Sources = [plan.Base.Path, .. plan.Steps.Select(s => s.Adapter.Path)],
            LeftOut = [.. tensors.Where(t => t.Strength == 0).Select(t => t.Name)],
        };
    }

    private MergeReport Report(string model, IReadOnlyList<ReportTensor> tensors) =>
        new(model, MergeRecord.Read(model), tensors) { Shards = _shards, Checks = _checks, Plan = _plan };
}
