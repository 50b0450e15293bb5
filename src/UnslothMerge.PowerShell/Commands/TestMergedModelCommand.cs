using UnslothMerge.Recipes;
using UnslothMerge.Verification;

namespace UnslothMerge.PowerShell.Commands;

/// <summary>Tests a saved model: checks files, names, config, tokenizer and values against base and adapters, by reference formulas in
/// float64. Emits one object per check, or with -Quiet one boolean.</summary>
[Cmdlet(VerbsDiagnostic.Test, "MergedModel", DefaultParameterSetName = PipelineSet)]
[OutputType(typeof(ModelCheck), typeof(bool))]
public sealed class TestMergedModelCommand : DeltaCommand
{
    private const string BaseSet = "Base";
    private const string PipelineSet = "Pipeline";

    private readonly MergeInput _input = new();
    private readonly List<string> _models = [];
    private bool _hasModels;

    /// <summary>The directories of saved models, or files in them.</summary>
    [Parameter(Position = 0, ParameterSetName = PipelineSet, ValueFromPipelineByPropertyName = true)]
    [Parameter(Position = 0, ParameterSetName = BaseSet, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [Alias("Destination")]
    [ValidateNotNullOrEmpty]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(ModelCompleter))]
    public string[]? Path { get; set; }

    /// <summary>The directories of saved models as they are written, without wildcards.</summary>
    [Parameter(ValueFromPipelineByPropertyName = true)]
    [Alias("PSPath", "LP")]
    [ValidateNotNullOrEmpty]
    [ArgumentCompleter(typeof(ModelCompleter))]
    public string[]? LiteralPath { get; set; }

    /// <summary>The tensors of Merge-LoraModel that the model should contain. Only these are checked. Without them, and without -Base, the
    /// merge is the one that merge.json of the model names.</summary>
    [Parameter(ParameterSetName = PipelineSet, ValueFromPipeline = true)]
    [AllowNull]
    public PSObject?[]? InputObject { get; set; }

    /// <summary>The directory of the base model.</summary>
    [Parameter(Mandatory = true, Position = 1, ParameterSetName = BaseSet)]
    [ValidateNotNullOrEmpty]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(ModelCompleter))]
    public string Base { get; set; } = "";

    /// <summary>The directories of the adapters. Without adapters the model should be the converted base.</summary>
    [Parameter(Position = 2, ParameterSetName = BaseSet)]
    [ValidateNotNullOrEmpty]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(AdapterCompleter))]
    public string[]? Adapter { get; set; }

    /// <summary>One factor per adapter; 1 by default.</summary>
    [Parameter(ParameterSetName = BaseSet)]
    [ArgumentCompleter(typeof(WeightCompleter))]
    public double[]? Weight { get; set; }

    /// <summary>The -Tokenizer of Save-MergedModel, if it was given.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    [ArgumentCompleter(typeof(FolderCompleter))]
    public string? Tokenizer { get; set; }

    /// <summary>Checks every element instead of samples of every tensor.</summary>
    [Parameter]
    public SwitchParameter Full { get; set; }

    /// <summary>Returns one boolean: true if every check passed.</summary>
    [Parameter]
    public SwitchParameter Quiet { get; set; }

    /// <summary>The maximum number of threads; the number of processors by default.</summary>
    [Parameter]
    [ValidateRange(1, 1024)]
    [ArgumentCompleter(typeof(ThreadsCompleter))]
    [PSDefaultValue(Help = "The number of processors")]
    public int ThrottleLimit { get; set; } = Environment.ProcessorCount;

    private protected override void Begin()
    {
        base.Begin();
        var given = MyInvocation.BoundParameters;
        _hasModels = given.ContainsKey(nameof(Path)) || given.ContainsKey(nameof(LiteralPath));
        if (given.ContainsKey(nameof(Path)) && given.ContainsKey(nameof(LiteralPath)))
        {
            Engine(() => throw new MergeException(
                MergeError.InvalidOption, "-Path and -LiteralPath are two ways to say the same.", nameof(LiteralPath),
                "Give one of them."));
        }
    }

    private protected override void Process()
    {
        if (ParameterSetName == PipelineSet && (MyInvocation.ExpectingInput || InputObject is not null))
        {
            Array.ForEach(InputObject ?? [null], Take);
        }

        AddModels(LiteralPath ?? Path ?? [], LiteralPath is not null);
    }

    // What comes from the pipeline is a tensor, or leads to a model.
    private void Take(PSObject? item)
    {
        if (!_hasModels && item?.BaseObject is string path)
        {
            AddModels([path], literal: false);
        }
        else if (item?.BaseObject is not SavedModelShard && (_hasModels || (LiteralPath ?? Path) is null))
        {
            Engine(() => _input.Add(item));
        }
    }

    // Every shard of a model leads to the same directory.
    private void AddModels(string[] paths, bool literal)
    {
        foreach (var path in ResolveSome(paths, nameof(Path), HubUse.Whole, literal).Select(f => f.Directory))
        {
            var directory = File.Exists(path) ? System.IO.Path.GetDirectoryName(path)! : path;
            if (!_models.Contains(directory))
            {
                _models.Add(directory);
            }
        }
    }

    private protected override void End()
    {
        if (_models.Count == 0)
        {
            Refuse(nameof(Path), "There is no model to test.", "Give its directory: Test-MergedModel ./out");
        }

        (MergePlan Plan, IReadOnlyList<LogicalTensor> Tensors)? merge =
            ParameterSetName == BaseSet ? FromBase() : _input.Plan is { } plan ? FromPipeline(plan) : null;
        var passed = true;
        foreach (var model in _models)
        {
            // A model that is not there has not passed: -Quiet must say so to whoever asks in a condition.
            var tested = TryEngine(
                () =>
                {
                    if (!Directory.Exists(model))
                    {
                        throw new MergeException(
                            MergeError.PathNotFound, $"The model directory '{model}' does not exist.", model, "Check the path.");
                    }

                    var (plan, tensors) = merge ?? FromRecord(model);
                    Download(plan);
                    return Test(plan, tensors, model);
                },
                out var checks);
            passed &= tested && checks.All(c => c.Passed == true);
            if (tested && !Quiet)
            {
                WriteObject(checks, enumerateCollection: true);
            }
        }

        if (Quiet)
        {
            WriteObject(passed);
        }
    }

    private List<ModelCheck> Test(MergePlan plan, IReadOnlyList<LogicalTensor> tensors, string model)
    {
        WriteVerbose(
            $"Testing {(Full ? "every element" : "samples")} of {tensors.Count} tensors of '{model}' against '{plan.Base.Path}' and "
            + $"{Amount.Text(plan.Steps.Length, "adapter")}.");
        using var progress = new MergeProgressRecord(WriteProgress, $"Testing {model}", [], TimeProvider.System);
        var tokenizer = Tokenizer is null ? null : ResolveOne(Tokenizer, nameof(Tokenizer), HubUse.Tokenizer).Directory;
        var options = new VerificationOptions(Full, ThrottleLimit) { Tokenizer = tokenizer };
        using var stream = HubStream.Open(plan.InputFiles, Stop);
        var results = ModelVerifier.Verify(plan, tensors, model, options, progress, Stop);
        List<ModelCheck> checks = [.. results.Select(r => new ModelCheck(r, model))];
        stream?.Complete();
        return checks;
    }

    private (MergePlan Plan, IReadOnlyList<LogicalTensor> Tensors) FromPipeline(MergePlan plan)
    {
        RequireNoOptions("what comes from the pipeline is planned already");
        return (plan, Engine(() => _input.Select(allowPartial: true, string.Join(", ", _models))));
    }

    private (MergePlan Plan, IReadOnlyList<LogicalTensor> Tensors) FromRecord(string model)
    {
        RequireNoOptions("merge.json of the model says what was merged");
        var merge = RecordedMerge.Plan(model, Unresolved(".", nameof(Path)));
        WriteVerbose(
            $"merge.json names the base '{merge.Plan.Base.Path}' and the adapters "
            + $"'{string.Join("', '", merge.Plan.Steps.Select(s => s.Adapter.Path))}'.");
        return merge;
    }

    private void RequireNoOptions(string why)
    {
        if (DeltaParameters.FirstOrDefault(MyInvocation.BoundParameters.ContainsKey) is { } parameter)
        {
            Refuse(
                parameter, $"-{parameter} belongs to Merge-LoraModel: {why}.",
                $"Give -{parameter} to Merge-LoraModel, or give -Base and -Adapter here.");
        }
    }

    private (MergePlan Plan, IReadOnlyList<LogicalTensor> Tensors) FromBase()
    {
        var model = Open(ResolveOne(Base, nameof(Base), HubUse.Base));
        var adapters = ResolveSome(Adapter ?? [], nameof(Adapter), HubUse.Adapter);
        var plan = Engine(() => MergePlanner.Plan(model, MergeInput.Steps(adapters, Weight), Options));
        return (plan, plan.Tensors);
    }
}
