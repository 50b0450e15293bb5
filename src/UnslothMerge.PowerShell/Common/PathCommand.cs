namespace UnslothMerge.PowerShell.Common;

/// <summary>The base of commands that read several directories: an error in one does not stop the others.</summary>
public abstract class PathCommand : HubCommand
{
    private const string PathSet = "Path";
    private const string LiteralPathSet = "LiteralPath";

    /// <summary>Directories, with wildcards.</summary>
    [Parameter(
        Mandatory = true, Position = 0, ParameterSetName = PathSet, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(PathCompleter))]
    public string[] Path { get; set; } = [];

    /// <summary>Directories, without wildcards.</summary>
    [Parameter(Mandatory = true, ParameterSetName = LiteralPathSet, ValueFromPipelineByPropertyName = true)]
    [Alias("PSPath", "LP")]
    [ValidateNotNullOrEmpty]
    [ArgumentCompleter(typeof(PathCompleter))]
    public string[] LiteralPath { get; set; } = [];

    private protected override void Process()
    {
        var literal = ParameterSetName == LiteralPathSet;
        foreach (var path in literal ? LiteralPath : Path)
        {
            if (!TryEngine(() => Resolve(path, ParameterSetName, Use, literal), out var directories))
            {
                continue;
            }

            foreach (var directory in directories)
            {
                if (TryEngine(() => Look(directory).ToList(), out var found))
                {
                    WriteObject(found, enumerateCollection: true);
                }
            }
        }
    }

    /// <summary>What a model on the Hub is looked at as.</summary>
    private protected abstract HubUse Use { get; }

    /// <summary>Reads one directory.</summary>
    private protected abstract IEnumerable<object> Look(FetchedModel model);
}
