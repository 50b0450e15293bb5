using UnslothMerge.Adapters;

namespace UnslothMerge.PowerShell.Commands;

/// <summary>Shows an adapter: kind, rank, scaling, modules; with a base, the tensors that it changes. Reads headers only.</summary>
[Cmdlet(VerbsCommon.Get, "LoraAdapter", DefaultParameterSetName = "Path")]
[OutputType(typeof(LoraAdapter))]
public sealed class GetLoraAdapterCommand : PathCommand
{
    private ModelDirectory? _base;

    /// <summary>The directory of a base model, to plan the merge.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    [ArgumentCompleter(typeof(ModelCompleter))]
    public string? Base { get; set; }

    protected override void BeginProcessing()
    {
        if (Base is not null)
        {
            var path = ResolveOne(Base, nameof(Base));
            _base = Engine(() => ModelDirectory.Open(path));
        }
    }

    private protected override IEnumerable<object> Look(string path)
    {
        var adapter = AdapterDirectory.Open(path);
        return [new LoraAdapter(adapter, _base is null ? null : MergePlanner.Plan(_base, [new AdapterStep(adapter, 1)]))];
    }
}
