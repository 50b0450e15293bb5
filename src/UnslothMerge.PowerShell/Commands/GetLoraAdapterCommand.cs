using System.Management.Automation;
using UnslothMerge.Adapters;
using UnslothMerge.Models;
using UnslothMerge.Planning;
using UnslothMerge.PowerShell.Common;

namespace UnslothMerge.PowerShell.Commands;

/// <summary>Shows an adapter: kind, rank, scaling, and its modules; with a base, where each of them lands. Reads headers only.</summary>
[Cmdlet(VerbsCommon.Get, "LoraAdapter", DefaultParameterSetName = "Path")]
[OutputType(typeof(LoraAdapter))]
public sealed class GetLoraAdapterCommand : EngineCommand
{
    private ModelDirectory? _base;

    /// <summary>Adapter directories; wildcards are allowed.</summary>
    [Parameter(Mandatory = true, Position = 0, ParameterSetName = "Path", ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    [SupportsWildcards]
    public string[] Path { get; set; } = [];

    /// <summary>Adapter directories, taken as they are.</summary>
    [Parameter(Mandatory = true, ParameterSetName = "LiteralPath", ValueFromPipelineByPropertyName = true)]
    [Alias("PSPath")]
    [ValidateNotNullOrEmpty]
    public string[] LiteralPath { get; set; } = [];

    /// <summary>The directory of the model that the adapters are meant for.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? Base { get; set; }

    /// <inheritdoc/>
    protected override void BeginProcessing()
    {
        if (Base is not null)
        {
            var path = ResolveOne(Base, nameof(Base));
            _base = Engine(() => ModelDirectory.Open(path));
        }
    }

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        var literal = ParameterSetName == "LiteralPath";
        foreach (var path in (literal ? LiteralPath : Path).SelectMany(p => Resolve(p, nameof(Path), literal)))
        {
            if (TryEngine(() => Describe(path), out var adapter))
            {
                WriteObject(adapter);
            }
        }
    }

    private LoraAdapter Describe(string path)
    {
        var adapter = AdapterDirectory.Open(path);
        return new LoraAdapter(adapter, _base is null ? null : MergePlanner.Plan(_base, [new AdapterStep(adapter, 1)]));
    }
}
