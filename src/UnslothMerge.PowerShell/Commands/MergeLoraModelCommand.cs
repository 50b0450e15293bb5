using System.Security;
using UnslothMerge.Hub.Fetching;
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

    /// <summary>The directory of the base model, or its name on the Hub: org/name, org/name@revision, or the address of its page.</summary>
    [Parameter(Mandatory = true, Position = 0, ParameterSetName = BaseSet, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    [ArgumentCompleter(typeof(ModelCompleter))]
    public string Base { get; set; } = "";

    /// <summary>The directories of the adapters, or their names on the Hub: org/name, org/name/checkpoint-500@revision. Without
    /// adapters the base is only converted.</summary>
    [Parameter(Position = 1, ParameterSetName = BaseSet, ValueFromPipelineByPropertyName = true)]
    [Parameter(ParameterSetName = PipelineSet)]
    [ValidateNotNull]
    [Alias("Path", "PSPath")]
    [ArgumentCompleter(typeof(AdapterCompleter))]
    public string[]? Adapter { get; set; }

    /// <summary>One factor per adapter; 1 by default. Negative factors subtract.</summary>
    [Parameter(ParameterSetName = BaseSet, ValueFromPipelineByPropertyName = true)]
    [Parameter(ParameterSetName = PipelineSet)]
    public double[]? Weight { get; set; }

    /// <summary>The tensors of another merge, to which the adapters are added.</summary>
    [Parameter(Mandatory = true, ParameterSetName = PipelineSet, ValueFromPipeline = true)]
    public MergeTensor? InputObject { get; set; }

    /// <summary>A YAML or JSON file that says base, adapters, strengths and output. Its paths are relative to it.</summary>
    [Parameter(Mandatory = true, ParameterSetName = RecipeSet)]
    [ValidateNotNullOrEmpty]
    public string Recipe { get; set; } = "";

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

        // What both would download is shown before the command gives up.
        var (name, adapters) = Named();
        var model = Unless(() => Open(ResolveBase(name!, Stream)));
        var steps = Unless(() => Steps(adapters));
        if (model is not null && steps is not null)
        {
            Emit(Engine(() => MergePlanner.Plan(model, steps, Options)));
        }
    }

    protected override void EndProcessing()
    {
        if (_input.Plan is not { } plan || Unless(() => Steps(Named().Adapters)) is not { } steps)
        {
            return;
        }

        // What was filtered out before stays out; what the new adapters add is new.
        var left = plan.Tensors.Select(t => t.Name).Except(_input.Tensors.Select(t => t.Name)).ToHashSet(StringComparer.Ordinal);
        var extended = Engine(() => MergePlanner.Extend(plan, _input.Strengths, steps, Options));
        Emit(extended, t => !left.Contains(t.Name), plan.Warnings.Length);
    }

    private void RunRecipe()
    {
        var file = ResolveOne(Recipe, nameof(Recipe), HubUse.Whole).Directory;
        var recipe = Engine(() => MergeRecipe.Read(file));
        var output = recipe.Output is null ? null
            : Engine(() => RecipeOutput.Parameters(recipe, this, p => InRecipe(file, p, HubUse.Tokenizer).Directory));
        if (Unless(() => Engine(() => recipe.Plan((path, use) => InRecipe(file, path, use)))) is not { } planned)
        {
            return;
        }

        Describe(planned.Plan);
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

    // Beside the recipe, unless it is a name on the Hub.
    private FetchedModel InRecipe(string file, string path, HubUse use)
    {
        if (path.Contains("://", StringComparison.Ordinal))
        {
            return FromHub(path, use) ?? FetchedModel.Local(path);
        }

        var isRelative = !Path.IsPathRooted(path) && !path.StartsWith('~') && !SessionState.Path.IsPSAbsolute(path, out _);
        var given = isRelative ? Path.Combine(Path.GetDirectoryName(file)!, path) : Unresolved(path, nameof(Recipe));
        return (isRelative && !Path.Exists(given) ? FromHub(path, use) : null) ?? FetchedModel.Local(Path.GetFullPath(given));
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

    private (string? Base, IReadOnlyList<string> Adapters) Named() =>
        Engine(() => Hub.Complete(ParameterSetName == BaseSet ? Base : null, Adapter ?? []));

    private IReadOnlyList<AdapterStep> Steps(IReadOnlyList<string> adapters)
    {
        var found = ResolveSome(adapters, nameof(Adapter), HubUse.Adapter);
        return Engine(() => MergeInput.Steps(found, Weight));
    }

    // Warnings that an earlier command of the pipeline has shown are not shown again.
    private void Emit(MergePlan plan, Func<LogicalTensor, bool>? filter = null, int shown = 0)
    {
        Describe(plan, shown);
        foreach (var tensor in plan.Tensors.Where(filter ?? (_ => true)))
        {
            WriteObject(new MergeTensor(plan, tensor));
        }
    }

    private void Describe(MergePlan plan, int shown = 0)
    {
        foreach (var warning in plan.Warnings.Skip(shown))
        {
            WriteWarning(warning);
        }

        foreach (var named in plan.Steps.Select(s => NamedBase.Compare(plan.Base, s.Adapter)).Where(n => n is { NeedsWarning: false }))
        {
            WriteVerbose(named!.Text);
        }

        WriteVerbose(
            $"Base '{plan.Base.Path}' ({plan.Base.Title}), {plan.Tensors.Length} tensors, {plan.Tensors.Count(t => t.IsChanged)} of them " +
            $"changed by {plan.Steps.Length} adapter(s).");
        WriteVerbose($"Names: {plan.NameRules}.");
    }
}
