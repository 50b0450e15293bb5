using System.Management.Automation;
using UnslothMerge.PowerShell.Completion;

namespace UnslothMerge.PowerShell.Common;

/// <summary>What commands share that look at directories, one after the other: a bad one is an error of its own and the next one's turn
/// comes.</summary>
public abstract class PathCommand : EngineCommand
{
    private const string PathSet = "Path";
    private const string LiteralPathSet = "LiteralPath";

    /// <summary>Directories; wildcards are allowed.</summary>
    [Parameter(
        Mandatory = true, Position = 0, ParameterSetName = PathSet, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(PathCompleter))]
    public string[] Path { get; set; } = [];

    /// <summary>Directories, taken as they are.</summary>
    [Parameter(Mandatory = true, ParameterSetName = LiteralPathSet, ValueFromPipelineByPropertyName = true)]
    [Alias("PSPath")]
    [ValidateNotNullOrEmpty]
    [ArgumentCompleter(typeof(PathCompleter))]
    public string[] LiteralPath { get; set; } = [];

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        var literal = ParameterSetName == LiteralPathSet;
        foreach (var path in literal ? LiteralPath : Path)
        {
            if (!TryEngine(() => Resolve(path, ParameterSetName, literal), out var directories))
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

    /// <summary>What is to be said about one directory.</summary>
    private protected abstract IEnumerable<object> Look(string path);
}
