using UnslothMerge.Hub.Cache;
using UnslothMerge.Recipes;

namespace UnslothMerge.PowerShell.Commands;

/// <summary>Writes a merge as a recipe: a YAML or JSON file that Merge-LoraModel -Recipe runs.</summary>
[Cmdlet(VerbsData.Export, "MergeRecipe", SupportsShouldProcess = true)]
[OutputType(typeof(FileInfo))]
public sealed class ExportMergeRecipeCommand : EngineCommand
{
    private readonly MergeInput _input = new();

    /// <summary>The file: JSON if its name ends in .json, else YAML.</summary>
    [Parameter(Position = 0)]
    [ValidateNotNullOrEmpty]
    public string? Path { get; set; }

    /// <summary>The tensors of Merge-LoraModel, with their strengths.</summary>
    [Parameter(ValueFromPipeline = true)]
    [AllowNull]
    [AllowEmptyCollection]
    public PSObject?[]? InputObject { get; set; }

    /// <summary>The directory that the recipe saves the model to. Without it, Merge-LoraModel -Recipe emits tensors for
    /// Save-MergedModel.</summary>
    [Parameter]
    [Alias("SaveDirectory", "OutputPath")]
    [ValidateNotNullOrEmpty]
    [ArgumentCompleter(typeof(FolderCompleter))]
    public string? Destination { get; set; }

    /// <summary>What the recipe saves.</summary>
    [Parameter]
    [Alias("SaveMethod")]
    [SaveMethodSpelling]
    [ArgumentCompleter(typeof(ChoiceCompleter<SaveMethod>))]
    [ValidateNotNullOrEmpty]
    public string Method { get; set; } = nameof(SaveMethod.merged_16bit);

    /// <summary>The maximum size of a shard that the recipe saves.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    [ArgumentCompleter(typeof(ShardSizeCompleter))]
    public string MaxShardSize { get; set; } = OutputOptions.DefaultMaxShardSize;

    /// <summary>Replaces a file.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    // Mandatory parameters would be asked for, although there is no merge.
    private protected override void Begin()
    {
        if (Path is null || (!MyInvocation.ExpectingInput && InputObject is null))
        {
            Refuse(
                Path is null ? nameof(Path) : nameof(InputObject), $"There is no {(Path is null ? "file" : "merge")} given.",
                "Write: Merge-LoraModel ./base ./adapter | Export-MergeRecipe ./recipe.yml");
        }

        Engine(() => ExportMethods.Require(Method));
        if (Destination is null
            && new[] { nameof(Method), nameof(MaxShardSize) }.FirstOrDefault(MyInvocation.BoundParameters.ContainsKey) is { } parameter)
        {
            Refuse(parameter, $"-{parameter} says how a model is saved, but the recipe has no destination.", "Give -Destination.");
        }
    }

    private protected override void Process() => Engine(() => Array.ForEach(InputObject ?? [null], _input.Add));

    private protected override void End()
    {
        if (_input.Plan is not { } plan)
        {
            Refuse(nameof(InputObject), "There is no merge to describe.", "Pipe the output of Merge-LoraModel here.");
            return;
        }

        var file = Unresolved(Path!, nameof(Path));
        var folder = System.IO.Path.GetDirectoryName(file)!;
        var text = Engine(() =>
        {
            _ = _input.Select(allowPartial: false, file);
            var strengths = _input.Strengths;
            var recipe = MergeRecipe.Of(file, plan, t => strengths.GetValueOrDefault(t.Ordinal, 1), d => NameIn(folder, d));
            return (recipe with { Output = Output(folder) }).Text();
        });
        RequireFree(file, Force);
        if (ShouldProcess(file, "Write a recipe"))
        {
            WriteFile(file, () => text);
        }
    }

    private JsonObject? Output(string folder)
    {
        if (Destination is null)
        {
            return null;
        }

        var output = new JsonObject
        {
            ["path"] = NameIn(folder, Unresolved(Destination, nameof(Destination))),
            [RecipeOutput.Snake(nameof(Method))] = Method,
        };
        if (MyInvocation.BoundParameters.ContainsKey(nameof(MaxShardSize)))
        {
            output[RecipeOutput.Snake(nameof(MaxShardSize))] = MaxShardSize;
        }

        return output;
    }

    // What is below the recipe or beside it moves with it; a model of the cache has its name.
    private static string NameIn(string folder, string directory)
    {
        if (HubCache.NameOf(directory) is { } name && HubCache.Find(name) == directory)
        {
            return name;
        }

        var relative = System.IO.Path.GetRelativePath(folder, directory).Replace('\\', '/');
        return System.IO.Path.IsPathRooted(relative) || relative.StartsWith("../../", StringComparison.Ordinal) ? directory
            : relative.StartsWith('.') ? relative : $"./{relative}";
    }
}
