using UnslothMerge.Recipes;
using UnslothMerge.Simd;

namespace UnslothMerge.PowerShell.Commands;

// The default set is the one that takes its input by value: with the other as the default, PowerShell settles on it before it has seen
// the input whenever only -Adapter is given, and then cannot bind the tensors of another merge. Nothing else may be mandatory in it, so
// that a plan can still bind by its properties.

/// <summary>Plans the merge of adapters into a base and emits one lazy object per tensor. Saving computes them. A recipe with an output is
/// saved.</summary>
[Cmdlet(VerbsData.Merge, "LoraModel", DefaultParameterSetName = PipelineSet, SupportsShouldProcess = true)]
[OutputType(typeof(MergeTensor), typeof(SavedModelShard))]
public sealed class MergeLoraModelCommand : DeltaCommand
{
    private const string BaseSet = "Base";
    private const string PipelineSet = "Pipeline";
    private const string RecipeSet = "Recipe";
    private readonly MergeInput _input = new();

    /// <summary>The directory of the base model.</summary>
    [Parameter(Mandatory = true, Position = 0, ParameterSetName = BaseSet, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    [ArgumentCompleter(typeof(ModelCompleter))]
    public string Base { get; set; } = "";

    /// <summary>The directories of the adapters. Without adapters the base is only converted.</summary>
    [Parameter(Position = 1, ParameterSetName = BaseSet, ValueFromPipelineByPropertyName = true)]
    [Parameter(ParameterSetName = PipelineSet)]
    [ValidateNotNull]
    [Alias("Path", "PSPath")]
    [ArgumentCompleter(typeof(AdapterCompleter))]
    public string[]? Adapter { get; set; }

    /// <summary>One factor per adapter; 1 by default. Negative factors subtract.</summary>
    [Parameter(ParameterSetName = BaseSet, ValueFromPipelineByPropertyName = true)]
    [Parameter(ParameterSetName = PipelineSet)]
    [ArgumentCompleter(typeof(WeightCompleter))]
    public double[]? Weight { get; set; }

    /// <summary>The tensors of another merge, to which the adapters are added.</summary>
    [Parameter(Mandatory = true, ParameterSetName = PipelineSet, ValueFromPipeline = true)]
    public MergeTensor? InputObject { get; set; }

    /// <summary>A YAML or JSON file that says base, adapters, strengths and output. Its paths are relative to it.</summary>
    [Parameter(Mandatory = true, ParameterSetName = RecipeSet)]
    [ValidateNotNullOrEmpty]
    public string Recipe { get; set; } = "";

    protected override void BeginProcessing()
    {
        base.BeginProcessing();
        if (ParameterSetName == RecipeSet && DeltaParameters.FirstOrDefault(MyInvocation.BoundParameters.ContainsKey) is { } parameter)
        {
            Refuse(parameter, $"-{parameter} belongs in the recipe.", $"Write it there as {RecipeOutput.Snake(parameter)}.");
        }

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

    protected override void ProcessRecord()
    {
        if (ParameterSetName == PipelineSet)
        {
            if (Adapter is null)
            {
                Refuse(nameof(Adapter), "There is no adapter to merge on top of those tensors.", "Give -Adapter.");
            }

            Engine(() => _input.Add(InputObject));
            return;
        }

        if (ParameterSetName == RecipeSet)
        {
            RunRecipe();
            return;
        }

        var path = ResolveOne(Base, nameof(Base));
        Emit(Engine(() => MergePlanner.Plan(ModelDirectory.Open(path), Steps(), Options)));
    }

    protected override void EndProcessing()
    {
        if (_input.Plan is not { } plan)
        {
            return;
        }

        // What was filtered out before stays out; what the new adapters add is new.
        var left = plan.Tensors.Select(t => t.Name).Except(_input.Tensors.Select(t => t.Name)).ToHashSet(StringComparer.Ordinal);
        var extended = Engine(() => MergePlanner.Extend(plan, _input.Strengths, Steps(), Options));
        Emit(extended, t => !left.Contains(t.Name), plan.Warnings.Length);
    }

    private void RunRecipe()
    {
        var file = ResolveOne(Recipe, nameof(Recipe));
        var recipe = Engine(() => MergeRecipe.Read(file));
        var output = recipe.Output is null ? null : Engine(() => RecipeOutput.Parameters(recipe, this, p => InRecipe(file, p)));
        var planned = Engine(() => recipe.Plan((path, _) => InRecipe(file, path)));
        Report(planned.Plan);
        var tensors = planned.Plan.Tensors.Select(t => planned.Strengths.TryGetValue(t.Ordinal, out var strength)
            ? new MergeTensor(planned.Plan, t) { Strength = strength } : new MergeTensor(planned.Plan, t));
        if (output is null)
        {
            WriteObject(tensors, enumerateCollection: true);
        }
        else
        {
            SavePipeline.Run(this, output, tensors);
        }
    }

    // Beside the recipe, unless only the Hub's cache has it.
    private string InRecipe(string file, string path)
    {
        var isRelative = !Path.IsPathRooted(path) && !path.StartsWith('~') && !SessionState.Path.IsPSAbsolute(path, out _);
        var given = isRelative ? Path.Combine(Path.GetDirectoryName(file)!, path) : Unresolved(path, nameof(Recipe));
        return isRelative && !Path.Exists(given) && HubCache.Find(path) is { } snapshot ? snapshot : Path.GetFullPath(given);
    }

    private IReadOnlyList<AdapterStep> Steps() => MergeInput.Steps(ResolveSome(Adapter ?? [], nameof(Adapter)), Weight);

    // Warnings that an earlier command of the pipeline has shown are not shown again.
    private void Emit(MergePlan plan, Func<LogicalTensor, bool>? filter = null, int shown = 0)
    {
        Report(plan, shown);
        foreach (var tensor in plan.Tensors.Where(filter ?? (_ => true)))
        {
            WriteObject(new MergeTensor(plan, tensor));
        }
    }
}
