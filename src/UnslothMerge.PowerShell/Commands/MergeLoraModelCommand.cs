using System.Collections;
using UnslothMerge.Recipes;
using UnslothMerge.Simd;

namespace UnslothMerge.PowerShell.Commands;

// The default set is the one that takes its input by value: with the other as the default, PowerShell settles on it before it has seen
// the input whenever only -Adapter is given, and then cannot bind the tensors of another merge. Nothing else may be mandatory in it, so
// that a plan can still bind by its properties.

/// <summary>Plans the merge of adapters into a base and emits one lazy object per tensor. Saving computes them. With -Destination, or by a
/// recipe with an output, the model is saved at once.</summary>
[Cmdlet(VerbsData.Merge, "LoraModel", DefaultParameterSetName = PipelineSet, SupportsShouldProcess = true)]
[OutputType(typeof(MergeTensor), typeof(SavedModelShard))]
public sealed class MergeLoraModelCommand : DeltaCommand
{
    private const string BaseSet = "Base";
    private const string PipelineSet = "Pipeline";
    private const string PlanSet = "Plan";
    private const string RecipeSet = "Recipe";
    private static readonly string[] SaveParameters = [nameof(Destination), nameof(Method), nameof(MaxShardSize), nameof(Force)];

    private readonly MergeInput _input = new();
    private readonly PipedAdapters _piped = new();

    /// <summary>The directory of the base model, or its name on the Hub: org/name, org/name@revision, or the address of its page.</summary>
    [Parameter(Mandatory = true, Position = 0, ParameterSetName = BaseSet, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(ModelCompleter))]
    public string Base { get; set; } = "";

    /// <summary>The directories of the adapters, or their names on the Hub: org/name, org/name/checkpoint-500@revision; several from the
    /// pipeline form one merge. Without adapters the base is only converted.</summary>
    [Parameter(Position = 1, ParameterSetName = BaseSet, ValueFromPipelineByPropertyName = true)]
    [Parameter(ParameterSetName = PipelineSet)]
    [ValidateNotNull]
    [Alias("Path")]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(AdapterCompleter))]
    public string[]? Adapter { get; set; }

    /// <summary>The directories of the adapters as they are written, without wildcards.</summary>
    [Parameter(ParameterSetName = BaseSet, ValueFromPipelineByPropertyName = true)]
    [Parameter(ParameterSetName = PipelineSet)]
    [ValidateNotNullOrEmpty]
    [Alias("PSPath", "LP")]
    [ArgumentCompleter(typeof(AdapterCompleter))]
    public string[]? LiteralPath { get; set; }

    /// <summary>One factor per adapter; 1 by default. Negative factors subtract.</summary>
    [Parameter(ParameterSetName = BaseSet, ValueFromPipelineByPropertyName = true)]
    [Parameter(ParameterSetName = PipelineSet)]
    [ArgumentCompleter(typeof(WeightCompleter))]
    public double[]? Weight { get; set; }

    /// <summary>The tensors of another merge, to which the adapters are added.</summary>
    [Parameter(ParameterSetName = PipelineSet, ValueFromPipeline = true)]
    [ValidateNotNull]
    public MergeTensor[]? InputObject { get; set; }

    /// <summary>A plan of Get-MergeMemoryPlan, to be merged as it was planned.</summary>
    [Parameter(Mandatory = true, ParameterSetName = PlanSet, ValueFromPipeline = true)]
    public MergeMemoryPlan? Plan { get; set; }

    /// <summary>A YAML or JSON file that says base, adapters, strengths and output. Its paths are relative to it.</summary>
    [Parameter(Mandatory = true, ParameterSetName = RecipeSet)]
    [ValidateNotNullOrEmpty]
    [SupportsWildcards]
    public string Recipe { get; set; } = "";

    /// <summary>The directory of the saved model. With it the merge is saved at once, as Save-MergedModel does; without it nothing is
    /// saved.</summary>
    [Parameter(Position = 2, ParameterSetName = BaseSet)]
    [Parameter(ParameterSetName = PipelineSet)]
    [Parameter(ParameterSetName = PlanSet)]
    [Alias("SaveDirectory", "OutputPath")]
    [ValidateNotNullOrEmpty]
    [ArgumentCompleter(typeof(FolderCompleter))]
    public string? Destination { get; set; }

    /// <summary>What is saved, now or by Save-MergedModel.</summary>
    [Parameter(ParameterSetName = BaseSet)]
    [Parameter(ParameterSetName = PipelineSet)]
    [Alias("SaveMethod")]
    [SaveMethodSpelling]
    [ArgumentCompleter(typeof(ChoiceCompleter<SaveMethod>))]
    [ValidateNotNullOrEmpty]
    public string Method { get; set; } = nameof(SaveMethod.merged_16bit);

    /// <summary>The maximum size of a shard, now or for Save-MergedModel: 5GB (decimal), 4GiB (binary), or a number of bytes.</summary>
    [Parameter(ParameterSetName = BaseSet)]
    [Parameter(ParameterSetName = PipelineSet)]
    [ValidateNotNullOrEmpty]
    [ArgumentCompleter(typeof(ShardSizeCompleter))]
    public string MaxShardSize { get; set; } = OutputOptions.DefaultMaxShardSize;

    /// <summary>Replaces a model at the destination. The previous model stays until the new one is complete.</summary>
    [Parameter(ParameterSetName = BaseSet)]
    [Parameter(ParameterSetName = PipelineSet)]
    [Parameter(ParameterSetName = PlanSet)]
    [Parameter(ParameterSetName = RecipeSet)]
    public SwitchParameter Force { get; set; }

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

    private protected override void Begin()
    {
        base.Begin();
        Hub = Hub with { Revision = Revision, Subfolder = Subfolder };
        if (ParameterSetName == RecipeSet && DeltaParameters.FirstOrDefault(MyInvocation.BoundParameters.ContainsKey) is { } parameter)
        {
            Refuse(parameter, $"-{parameter} belongs in the recipe.", $"Write it there as {RecipeOutput.Snake(parameter)}.");
        }

        if (ParameterSetName == PipelineSet && !MyInvocation.ExpectingInput && InputObject is null)
        {
            Refuse(
                nameof(Base), "There is nothing to merge.",
                "Give a base and its adapter: Merge-LoraModel ./base ./adapter. A third directory, ./out, saves the merged model there.");
        }

        if (Force && Destination is null && ParameterSetName != RecipeSet)
        {
            Refuse(nameof(Force), "-Force would have no effect, as nothing is saved.", "Give -Destination, or -Force to Save-MergedModel.");
        }

        Engine(() => _piped.Begin(MyInvocation));
        Kernels.Prepare();

        // A plan from the pipeline may have no adapters; a list that was given and turned out empty is a slip that would save the plain
        // base.
        if (MyInvocation.BoundParameters.ContainsKey(nameof(Adapter)) && Adapter is { Length: 0 })
        {
            Refuse(
                nameof(Adapter), "-Adapter is an empty list.",
                "Give at least one adapter, or leave -Adapter out to convert the base only.");
        }
    }

    private protected override void Process()
    {
        switch (ParameterSetName)
        {
            case RecipeSet:
                RunRecipe();
                break;
            case PlanSet:
                RunPlan(Plan!);
                break;
            case PipelineSet when (LiteralPath ?? Adapter) is null:
                Refuse(nameof(Adapter), "There is no adapter to merge on top of those tensors.", "Give -Adapter.");
                break;
            case PipelineSet:
                Engine(() => Array.ForEach(InputObject ?? [], _input.Add));
                break;
            default:
                if (!_piped.Collect(LiteralPath ?? Adapter, Weight))
                {
                    Merge(LiteralPath ?? Adapter ?? [], Weight);
                }

                break;
        }
    }

    private protected override void End()
    {
        if (Engine(_piped.All) is (var adapters, var weights))
        {
            Merge(adapters, weights ?? Weight);
        }

        if (_input.Plan is { } plan && Unless(() => Steps(Named((LiteralPath ?? Adapter)!).Adapters, Weight)) is { } steps)
        {
            // What was filtered out before stays out; what the new adapters add is new.
            var left = plan.Tensors.Select(t => t.Name).Except(_input.Tensors.Select(t => t.Name)).ToHashSet(StringComparer.Ordinal);
            var extended = Engine(() => MergePlanner.Extend(plan, _input.Strengths, steps, Options));
            Report(extended, plan.Warnings.Length);
            Emit(extended, extended.Tensors.Where(t => !left.Contains(t.Name)));
        }
    }

    // What base and adapters would download is shown of both before the command gives up.
    private void Merge(IReadOnlyList<string> given, double[]? weights)
    {
        var (name, adapters) = Named(given);
        var model = Unless(() => Open(ResolveBase(name!, Stream)));
        var steps = Unless(() => Steps(adapters, weights));
        if (model is not null && steps is not null)
        {
            var plan = Engine(() => MergePlanner.Plan(model, steps, Options));
            Report(plan);
            Emit(plan, plan.Tensors);
        }
    }

    // Options that shape the deltas are no part of such a plan: with them, the same adapters are planned anew.
    private void RunPlan(MergeMemoryPlan given)
    {
        if (DeltaParameters.Any(MyInvocation.BoundParameters.ContainsKey))
        {
            var plan = Engine(() => MergePlanner.Plan(
                given.Merge.Base, given.Merge.Steps.Select(s => new AdapterStep(s.Adapter, s.Weight)), Options));
            Report(plan);
            Emit(plan, plan.Tensors, output: given.Planned);
        }
        else
        {
            Report(given.Merge);
            Emit(given.Merge, given.Tensors, given.Strengths, given.Planned);
        }
    }

    private void RunRecipe()
    {
        var file = ResolveOne(Recipe, nameof(Recipe), HubUse.Whole).Directory;
        var recipe = Engine(() => MergeRecipe.Read(file));
        var output = recipe.Output is null ? null
            : Engine(() => RecipeOutput.Parameters(recipe, this, p => BesideRecipe(file, p).Path));
        if (Force && output is null)
        {
            Refuse(nameof(Force), "-Force would have no effect, as the recipe has no output.", "Leave it out, or write an output.");
        }
        else if (Force)
        {
            output![nameof(Force)] = true;
        }

        if (Unless(() => Engine(() => recipe.Plan((path, use) => InRecipe(file, path, use)))) is { } planned)
        {
            Report(planned.Plan);
            Emit(planned.Plan, planned.Plan.Tensors, planned.Strengths, save: output);
        }
    }

    private protected override void Advise(MergeException error)
    {
        if (ParameterSetName == RecipeSet)
        {
            error.Advice += RecipeOutput.Keys(error.Advice, DeltaParameters, this);
        }
    }

    // Beside the recipe, unless it is a name on the Hub.
    private FetchedModel InRecipe(string file, string path, HubUse use)
    {
        if (path.Contains("://", StringComparison.Ordinal))
        {
            return FromHub(path, use) ?? throw NoModel(path);
        }

        var (given, isRelative) = BesideRecipe(file, path);
        return (isRelative && !Path.Exists(given) ? FromHub(path, use) : null) ?? FetchedModel.Local(given);
    }

    private (string Path, bool IsRelative) BesideRecipe(string file, string path)
    {
        var isRelative = !Path.IsPathRooted(path) && !path.StartsWith('~') && !SessionState.Path.IsPSAbsolute(path, out _);
        var given = isRelative ? Path.Combine(Path.GetDirectoryName(file)!, path) : Unresolved(path, nameof(Recipe));
        return (Path.GetFullPath(given), isRelative);
    }

    private protected override bool MayDownload(MissingFiles missing) => ShouldProcess(
        DownloadText.Text(missing), $"{DownloadText.Summary(missing)}, from '{missing.Model.Reference}'?", "Merge-LoraModel");

    private static T? Unless<T>(Func<T> find)
        where T : class
    {
        try
        {
            return find();
        }
        catch (DownloadDeclinedException)
        {
            return null;
        }
    }

    private (string? Base, IReadOnlyList<string> Adapters) Named(IReadOnlyList<string> adapters) =>
        Engine(() => Hub.Complete(ParameterSetName == BaseSet ? Base : null, adapters));

    private IReadOnlyList<AdapterStep> Steps(IReadOnlyList<string> adapters, double[]? weights)
    {
        var found = ResolveSome(adapters, nameof(Adapter), HubUse.Adapter, LiteralPath is not null);
        return Engine(() => MergeInput.Steps(found, weights));
    }

    // Saves the tensors, if it is said where; else emits them, with what is said of the output.
    private void Emit(
        MergePlan plan, IEnumerable<LogicalTensor> tensors, IReadOnlyDictionary<int, double>? strengths = null,
        PlannedOutput? output = null, IDictionary? save = null)
    {
        string[] given = [.. SaveParameters.Where(MyInvocation.BoundParameters.ContainsKey)];
        var parameters = given.ToDictionary(p => p, p => MyInvocation.BoundParameters[p]);
        output ??= new PlannedOutput(parameters.Where(p => p.Key is nameof(Method) or nameof(MaxShardSize))
            .ToDictionary(p => p.Key, p => (object?)(p.Key == nameof(Method) ? Method : p.Value)));
        save ??= Destination is null ? null : new Hashtable(parameters);
        var last = save is null && MyInvocation.PipelinePosition == MyInvocation.PipelineLength ? tensors.LastOrDefault() : null;

        // Short: the column of names is made as wide as name and note together.
        var note = plan.Steps.Length == 0 ? "Plain conversion, not saved." : "Nothing is saved yet.";
        var emitted = tensors.Select(t => new MergeTensor(plan, t)
        {
            Strength = strengths is not null && strengths.TryGetValue(t.Ordinal, out var strength) ? strength : null,
            Output = output,
            Note = t == last ? note : null,
        });
        if (save is null)
        {
            // One after the other: PowerShell would make all objects of a collection before it hands on the first.
            foreach (var tensor in emitted)
            {
                WriteObject(tensor);
            }
        }
        else
        {
            Engine(() => SavePipeline.Run(this, save, emitted));
        }
    }
}
