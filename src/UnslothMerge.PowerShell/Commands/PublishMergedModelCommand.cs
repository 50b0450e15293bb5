using UnslothMerge.Hub;
using UnslothMerge.Hub.Publishing;

namespace UnslothMerge.PowerShell.Commands;

/// <summary>Publishes a saved model on the Hugging Face Hub as one commit.</summary>
[Cmdlet(VerbsData.Publish, "MergedModel", SupportsShouldProcess = true, DefaultParameterSetName = HubSet)]
[OutputType(typeof(PublishedModel))]
public sealed class PublishMergedModelCommand : PublishingCommand
{
    private readonly List<(string Path, string Repository)> _given = [];

    /// <summary>The directory of the model or adapter.</summary>
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [Alias("PSPath", "Destination", "SaveDirectory")]
    [ValidateNotNullOrEmpty]
    [ArgumentCompleter(typeof(ModelCompleter))]
    public string Path { get; set; } = "";

    /// <summary>The repository: org/name, or its address.</summary>
    [Parameter(Mandatory = true, Position = 1, ValueFromPipelineByPropertyName = true)]
    [Alias("PushToHub", "RepoId")]
    [ValidateNotNullOrEmpty]
    public string Repository { get; set; } = "";

    private protected override void Process() => _given.Add((Path, Repository));

    // What comes through the pipeline is known as a whole before anything is sent.
    private protected override void End()
    {
        if (_given.Count == 0)
        {
            Refuse(nameof(Path), "No model came through the pipeline.", "Check what stands before Publish-MergedModel.");
        }

        var models = _given.Select(g => (g.Path, Target: Engine(() => HubSession.Target(g.Repository, nameof(Repository), this))))
            .ToList();
        if (models.GroupBy(m => m.Target.Repository, StringComparer.OrdinalIgnoreCase).FirstOrDefault(m => m.Count() > 1) is { } several)
        {
            Refuse(nameof(Path), $"{several.Count()} models would be published to '{several.Key}', each in the place of the one before: "
                + $"{string.Join(", ", several.Take(3).Select(m => $"'{m.Path}'"))}{(several.Count() > 3 ? ", …" : "")}.",
                "Pipe one model, or objects that have a Path and a Repository each.");
        }

        models.ForEach(m => Publish(m.Path, m.Target));
    }

    private void Publish(string path, PublishTarget target)
    {
        var directory = ResolveOne(path, nameof(Path), HubUse.Whole).Directory;
        using var hub = Engine(() => new HubSession(this, Token, target));
        var baseId = PublishedFiles.BaseOf(directory);
        var files = Engine(() =>
        {
            RequireModel(directory);
            return hub.Files(directory, baseId, []);
        });
        Engine(() => hub.Plan([.. files.Select(f => f.Name)],
            [.. files.OrderByDescending(f => f.Name == CardText.FileName).Take(1)], baseId, Stop));
        var summary = hub.Summary(files.Count, files.Sum(f => f.Size));
        var lines = string.Concat(files.Select(f => $"\n  {f.Name}  {ByteSize.Text(f.Size)}"));
        if (ShouldProcess($"{summary}.{lines}{hub.Deleted()}", $"{summary}?{hub.Deleted()}", "Publish-MergedModel"))
        {
            WriteObject(Engine(() => hub.Publish(files, files.Any(f => f.Name == Adapters.AdapterDirectory.ConfigName), Stop)));
        }
    }

    private static void RequireModel(string directory)
    {
        if (!Directory.Exists(directory))
        {
            throw new MergeException(MergeError.InvalidModel, $"'{directory}' is not a directory.", directory,
                "Give the directory of a saved model.");
        }

        if (!ModelFiles.Is(directory, isAdapter: false) && !ModelFiles.Is(directory, isAdapter: true))
        {
            throw new MergeException(MergeError.InvalidModel, $"'{directory}' holds no model and no adapter.", directory,
                "Give the directory of a saved model: its config and weights.");
        }
    }
}
