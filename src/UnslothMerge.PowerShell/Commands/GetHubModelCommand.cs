using UnslothMerge.Hub;

namespace UnslothMerge.PowerShell.Commands;

/// <summary>Lists the files of a model or adapter on the Hub, which of them are in the local cache, and which a merge needs. Downloads
/// nothing.</summary>
[Cmdlet(VerbsCommon.Get, "HubModel")]
[OutputType(typeof(HubModelFile))]
public sealed class GetHubModelCommand : HubCommand
{
    /// <summary>The names on the Hub: org/name, org/name/folder, org/name@revision, or addresses of pages.</summary>
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true)]
    [ValidateNotNullOrEmpty]
    [ArgumentCompleter(typeof(HubNameCompleter))]
    public string[] Name { get; set; } = [];

    /// <summary>The revision, if the name has none: a branch, a tag, a commit, or refs/pr/1.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? Revision { get; set; }

    private protected override void Process()
    {
        foreach (var name in Name)
        {
            if (TryEngine(() => List(name).ToList(), out var files))
            {
                WriteObject(files, enumerateCollection: true);
            }
        }
    }

    private IEnumerable<HubModelFile> List(string name)
    {
        var reference = HubReference.Parse(name, Client.Settings.Endpoint, bare: true) ?? throw new MergeException(
            MergeError.InvalidArgument, $"'{name}' is no name of a model on the Hub.", name,
            "Write it as org/name, org/name/folder@revision, or the address of its page.");
        var model = Find(reference with { Revision = reference.Revision ?? Revision });
        var needed = HubFetch.NeededFiles(model).ToHashSet();
        return model.Files.Select(f => new HubModelFile(model, f, needed.Contains(f)));
    }
}
