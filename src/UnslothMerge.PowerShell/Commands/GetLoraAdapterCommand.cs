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

    private protected override void Begin()
    {
        base.Begin();
        if (Base is not null)
        {
            _base = Open(ResolveOne(Base, nameof(Base), HubUse.Base));
        }
    }

    private protected override HubUse Use => HubUse.Adapter;

    private protected override IEnumerable<object> Look(FetchedModel model)
    {
        var adapter = AdapterDirectory.Open(model.Directory);
        return [new LoraAdapter(adapter, _base is null ? null : MergePlanner.Plan(_base, [new AdapterStep(adapter, 1)]))];
    }
}
