using System.Management.Automation;
using UnslothMerge.Formats;
using UnslothMerge.Models;
using UnslothMerge.PowerShell.Common;

namespace UnslothMerge.PowerShell.Commands;

/// <summary>Lists the tensors of a checkpoint. Reads headers only.</summary>
[Cmdlet(VerbsCommon.Get, "ModelTensor", DefaultParameterSetName = "Path")]
[OutputType(typeof(ModelTensor))]
public sealed class GetModelTensorCommand : EngineCommand
{
    /// <summary>Model directories; wildcards are allowed.</summary>
    [Parameter(Mandatory = true, Position = 0, ParameterSetName = "Path", ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    [SupportsWildcards]
    public string[] Path { get; set; } = [];

    /// <summary>Model directories, taken as they are.</summary>
    [Parameter(Mandatory = true, ParameterSetName = "LiteralPath", ValueFromPipelineByPropertyName = true)]
    [Alias("PSPath")]
    [ValidateNotNullOrEmpty]
    public string[] LiteralPath { get; set; } = [];

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        var literal = ParameterSetName == "LiteralPath";
        foreach (var path in (literal ? LiteralPath : Path).SelectMany(p => Resolve(p, nameof(Path), literal)))
        {
            if (TryEngine(() => StoredFormats.Read(ModelDirectory.Open(path)), out var tensors))
            {
                WriteObject(tensors.Select(t => new ModelTensor(t)), enumerateCollection: true);
            }
        }
    }
}
