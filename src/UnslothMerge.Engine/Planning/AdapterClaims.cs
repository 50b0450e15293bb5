using UnslothMerge.Adapters;

namespace UnslothMerge.Planning;

/// <summary>Keeps account of an adapter's tensors: each is claimed by one rule, or has a problem.</summary>
internal sealed class AdapterClaims(AdapterDirectory adapter, PlanDraft plan)
{
    // What to do about faults that no other base cures.
    private static readonly (string Fault, string What)[] Advice =
    [
        ("weight must be 1", "Leave the adapter's weight at 1."),
        ("more than one adapter", "Save one adapter at a time, with PEFT's save_pretrained."),
        ("its rank is", "Take adapter_config.json and the weights from the same checkpoint."),
    ];

    private readonly Dictionary<string, string> _problems = new(StringComparer.Ordinal);

    // The rule that claimed each tensor, by its number. A rule may use a tensor in several deltas, two rules may not.
    private readonly Dictionary<string, int> _claimed = new(StringComparer.Ordinal);
    private readonly Lazy<int?> _layers = new(() => plan.Tensors.Max(t => TensorNames.Layer(t.Name)));
    private int _rule;

    /// <summary>The tensors that all modules share, by name: every rule may claim them.</summary>
    public Dictionary<string, StoredTensor> Shared { get; } = new(StringComparer.Ordinal);

    /// <summary>The claims that follow are those of another rule.</summary>
    public void NextRule() => _rule++;

    /// <summary>True if a rule has claimed a tensor, or has said what is wrong with it.</summary>
    public bool Has(StoredTensor tensor) => _claimed.ContainsKey(tensor.Name);

    /// <summary>Claims a tensor; false if another rule has it.</summary>
    public bool Claim(StoredTensor tensor)
    {
        if (_claimed.TryAdd(tensor.Name, _rule) || _claimed[tensor.Name] == _rule || Shared.ContainsValue(tensor))
        {
            return true;
        }

        _problems.TryAdd(tensor.Name, "two rules claim it");
        return false;
    }

    /// <summary>Says why a tensor cannot be placed; the first reason stays.</summary>
    public void Problem(StoredTensor tensor, string reason)
    {
        _claimed.TryAdd(tensor.Name, _rule);
        _problems.TryAdd(tensor.Name, reason);
    }

    /// <summary>Says that the base has no parameter of a tensor's name.</summary>
    public void Unplaced(StoredTensor tensor, string module, string parameter)
    {
        var layers = _layers.Value;
        var layer = TensorNames.Layer($"{module}.{parameter}");
        Problem(tensor, layer > layers ? $"the base has {layers + 1} layers" : $"the base has no {module}.{parameter}");
    }

    /// <summary>Makes sure that every tensor of the adapter has found its place.</summary>
    public void RequireAll()
    {
        foreach (var tensor in adapter.Tensors.Where(t => !Has(t)))
        {
            _problems.TryAdd(
                tensor.Name,
                Shared.ContainsValue(tensor)
                    ? "no module of the adapter that could be placed uses it"
                    : "no rule knows what to do with it");
        }

        if (_problems.Count > 0)
        {
            throw DoesNotFit();
        }
    }

    private MergeException DoesNotFit()
    {
        const int shown = 10;
        var total = adapter.Tensors.Count();
        var lines = _problems.Take(shown).Select(p => $"  {p.Key}: {p.Value}{Nearest(p.Key, p.Value)}");
        var more = _problems.Count > shown ? $"\n  … and {_problems.Count - shown} more." : "";
        var advice = Advice.FirstOrDefault(a => _problems.Values.All(p => p.Contains(a.Fault, StringComparison.Ordinal))).What;
        var trainedOn = adapter.Config.BaseModel is { } name
            ? $"The adapter was trained on '{name}'. Pass that model, or its local folder, as the base."
            : "Pass the model that the adapter was trained on as the base.";
        return new MergeException(
            MergeError.AdapterDoesNotFit,
            $"The adapter '{adapter.Path}' does not fit the base '{plan.Base.Path}' ({plan.Base.Title}): {_problems.Count} of its {total} "
            + $"tensors do not match.\n{string.Join('\n', lines)}{more}",
            adapter.Path,
            advice ?? trainedOn)
        {
            Details = new MappedList<KeyValuePair<string, string>, string>([.. _problems], (p, _) => $"{p.Key}: {p.Value}"),
        };
    }

    // Searching the nearest names takes time, so only those that are shown are searched.
    private string Nearest(string tensor, string reason)
    {
        if (!reason.StartsWith("the base has no ", StringComparison.Ordinal))
        {
            return "";
        }

        var name = AdapterNames.Parse(tensor);
        var nearest = plan.Names.Nearest(AdapterKinds.Parts.Contains(name.Part) ? $"{name.Module}.weight" : $"{name.Module}.{name.Part}");
        return nearest.Count > 0 ? $" (nearest: {string.Join(", ", nearest)})" : "";
    }
}
