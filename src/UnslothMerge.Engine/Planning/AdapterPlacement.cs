using UnslothMerge.Adapters;
using UnslothMerge.Adapters.Combining;
using UnslothMerge.Adapters.Kinds;
using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Planning;

/// <summary>Places the tensors of one adapter: asks its kinds what they change, and makes those changes.</summary>
internal sealed class AdapterPlacement
{
    private readonly PlanDraft _plan;
    private readonly AdapterStep _step;
    private readonly AdapterClaims _claims;
    private readonly BaseParameters _base;
    private readonly Dictionary<string, long> _outputs = new(StringComparer.Ordinal);

    // What earlier adapters replaced must not be changed again, and what this one replaces takes its own deltas on top.
    private readonly TensorList _before;

    public AdapterPlacement(PlanDraft plan, AdapterStep step)
    {
        (_plan, _step, _claims) = (plan, step, new AdapterClaims(step.Adapter, plan));
        _before = new TensorList(plan.Tensors);
        _base = new BaseParameters(plan.Names, Target, plan.Config)
        {
            MoeOrientation = plan.Options.MoeOrientation,
            MoeLoraLayout = plan.Options.MoeLoraLayout,
        };
    }

    /// <summary>Places them.</summary>
    public void Place()
    {
        RequireValues();
        var kinds = AdapterKinds.Table.Where(k => k.PeftType == _step.Adapter.Config.PeftType).ToList();
        var sharedParts = kinds.SelectMany(k => k.SharedParts).ToList();
        foreach (var tensor in _step.Adapter.Weights.Tensors)
        {
            if (AdapterNames.Shared(tensor.Name, sharedParts) is { } name)
            {
                _claims.Shared.Add(name, tensor);
            }
        }

        var parsed = _step.Adapter.Weights.Tensors.Except(_claims.Shared.Values)
            .Select(t => new Part(AdapterNames.Parse(t.Name), t))
            .ToLookup(p => AdapterKinds.Parts.Contains(p.Name.Part));

        foreach (var (name, tensor) in parsed[true].Where(p => p.Name.Part == LoraLayer.B && p.Tensor.Shape.Count == 2))
        {
            _outputs.TryAdd(name.Module, tensor.Shape[0]);
        }

        _plan.Names.Expect([.. parsed[true].Select(p => $"{p.Name.Module}.weight").Distinct()]);

        // Saved modules first: deltas are added to what they bring.
        var saved = new SavedModules(_plan, _step, _claims, _before);
        var superseded = AdapterNames.Superseded(_step.Adapter.Weights.Tensors.Select(t => t.Name));
        foreach (var (name, tensor) in parsed[false])
        {
            if (superseded.Contains(tensor.Name) && _claims.Claim(tensor))
            {
                _plan.Report(tensor, name.Module, SavedModules.Kind, AdapterOutcome.NotNeeded, null);
                continue;
            }

            saved.Place(tensor, name.Module, name.Part);
        }

        foreach (var file in _step.Adapter.Trained)
        {
            saved.Place(file);
        }

        var modules = parsed[true].GroupBy(p => p.Name.Module).ToList();
        foreach (var module in modules)
        {
            Bind(kinds, module.Key, modules.Count, [.. module]);
        }

        _claims.RequireAll();
    }

    // Under ZeRO-3 every process has a part of each parameter, and what is saved without a gather is [0].
    private void RequireValues()
    {
        var empty = _step.Adapter.Tensors.Where(t => t.Shape is [0]).Select(t => t.Name).ToList();
        if (empty.Count > 0 && _step.Adapter.Config.PeftType == "LORA")
        {
            throw new MergeException(
                MergeError.InvalidAdapter,
                $"{empty.Count} tensors of the adapter '{_step.Adapter.Path}' are empty, such as '{empty[0]}': it was saved without "
                + "DeepSpeed ZeRO-3's gather.",
                _step.Adapter.Path,
                "Save it with stage3_gather_16bit_weights_on_model_save, or run the checkpoint's zero_to_fp32.py.") { Details = empty };
        }
    }

    private void Bind(List<AdapterKind> kinds, string module, int modules, List<Part> parts)
    {
        foreach (var kind in kinds)
        {
            var levels = new SortedList<int, Dictionary<string, StoredTensor>>();
            foreach (var (name, tensor) in parts.Where(p => kind.Parts.Contains(p.Name.Part) && !_claims.Has(p.Tensor)))
            {
                if (!levels.TryGetValue(name.Depth, out var mine))
                {
                    levels.Add(name.Depth, mine = new(StringComparer.Ordinal));
                }

                if (!mine.TryAdd(name.Part, tensor))
                {
                    _claims.Problem(tensor, $"it is the second {name.Part} of {module}; the file holds more than one adapter");
                }
            }

            if (levels.Count == 1 || (levels.Count > 1 && kind.Nests))
            {
                _claims.NextRule();
                var adapted = new AdaptedModule(module, _step.Adapter.Config, _base, [.. levels.Values], _claims.Shared,
                    modules) { OutputsOf = m => _outputs.TryGetValue(m, out var rows) ? rows : null };
                if (kind.Bind(adapted) is { } changes)
                {
                    Apply(kind, adapted, changes);
                }
            }
        }

        foreach (var (_, tensor) in parts.Where(p => !_claims.Has(p.Tensor) && _base.Find(module, "weight") is null))
        {
            _claims.Unplaced(tensor, module, "weight");
        }
    }

    private void Apply(AdapterKind kind, AdaptedModule module, ModuleChanges changes)
    {
        if (changes.Misfit is { } misfit)
        {
            foreach (var tensor in module.Levels.SelectMany(l => l.Values))
            {
                if (misfit.Tensors.Count == 0 || misfit.Tensors.Contains(tensor))
                {
                    _claims.Problem(tensor, misfit.Message);
                }
                else
                {
                    _claims.Claim(tensor);
                }
            }
        }

        foreach (var input in changes.Changes.SelectMany(c => c.Term.Inputs).Distinct())
        {
            _claims.Claim(input);
        }

        foreach (var change in changes.Changes)
        {
            Change(change.Tensor, change.Term, change.View);
        }

        // Experts and parts that share their factors are one target of the adapter.
        foreach (var (tensor, term, _) in changes.Changes.DistinctBy(c => (c.Tensor.Name, c.Term.Inputs[0])))
        {
            var inputs = term.Inputs.Select(i => i.Name).ToImmutableArray();
            _plan.Targets.Add(new AdapterTarget(_step.Adapter.Name, module.Name, term.Kind, AdapterOutcome.Merged, tensor.Name, inputs)
            {
                Rank = term.Rank,
                Scaling = term.Scaling,
            });
        }

        foreach (var tensor in changes.NotNeeded.Where(_claims.Claim))
        {
            _plan.Report(tensor, module.Name, kind.Name, AdapterOutcome.NotNeeded, null);
        }

        if (changes.Warning is { } warning && !_plan.Warnings.Contains(warning))
        {
            _plan.Warnings.Add(warning);
        }
    }

    private void Change(TargetTensor tensor, DeltaTerm term, MatrixView? view)
    {
        var ordinal = _plan.Names.PlaceOf(tensor.Name);
        var current = _plan.Tensors[ordinal];
        var before = _before[ordinal];
        var combines = before.Action is not (TensorAction.Replace or TensorAction.Add) && before.Terms.All(t => t.Term.CombinesWith(term));
        foreach (var input in term.Inputs)
        {
            if (!combines)
            {
                var other = before.Action is TensorAction.Replace or TensorAction.Add
                    ? "a replacement"
                    : string.Join(" and ", before.Terms.Select(t => t.Term.Kind).Distinct());
                _claims.Problem(
                    input,
                    $"{current.Name} is changed by {string.Join(", ", before.Adapters)} too ({other}), and only sums, or changes of one "
                    + $"kind that act one after the other, can be combined with a {term.Kind}");
            }
        }

        view ??= MatrixView.Of(tensor.Shape);
        if (current.Terms.Length > 0 && current.View != view)
        {
            _claims.Problem(term.Inputs[0], $"it sees {current.Name} as another matrix than the other changes to it");
        }

        if (!term.IsAdditive && _step.Weight != 1)
        {
            _claims.Problem(term.Inputs[0], $"a {term.Kind} cannot be weighted, so the adapter's weight must be 1, not {_step.Weight}");
        }

        if (!term.IsAdditive && _plan.Options.Combination != CombinationType.Sum)
        {
            _claims.Problem(term.Inputs[0], $"a {term.Kind} is not a sum, so {_plan.Options.Combination.Name()} cannot combine it");
        }

        _plan.Tensors[ordinal] = current with
        {
            Action = current.Action is TensorAction.Replace or TensorAction.Add ? current.Action : TensorAction.Merge,
            SpecialView = view,
            Terms = term is MagnitudeTerm magnitude && before.Terms.Length > 0
                ? WithDora(current, before.Terms.Length, magnitude) : WithTerm(current, term),
            Adapters = current.AdaptersWith(_step),
        };
    }

    private TargetTensor Target(string name)
    {
        var tensor = _plan.Tensors[_plan.Names.PlaceOf(name)];
        return new TargetTensor(name, tensor.Shape, tensor.Source);
    }

    // Its norm is that of what this adapter alone makes of the base.
    private ImmutableArray<WeightedTerm> WithDora(LogicalTensor tensor, int others, MagnitudeTerm magnitude) =>
    [
        .. tensor.Terms[..others],
        new WeightedTerm(
            new DoraTerm([.. tensor.Terms[others..].Select(t => t.Term).OfType<LowRankTerm>()], magnitude), _step.Adapter.Name, 1),
    ];

    // All terms of this run on a tensor are one, unless they are simply added.
    private ImmutableArray<WeightedTerm> WithTerm(LogicalTensor current, DeltaTerm term)
    {
        if (_plan.Options is not { Combination: not CombinationType.Sum and var type, Density: { } density, Seed: var seed })
        {
            return current.Terms.Insert(
                term.Composition == DeltaComposition.Before ? 0 : current.Terms.Length,
                new WeightedTerm(term, _step.Adapter.Name, _step.Weight));
        }

        var adapter = _plan.Steps.Count - 1;
        return current.Terms is [.. var before, { Term: CombinedTerm combined } last] && combined.Deltas[0].Adapter >= _plan.FirstStep
            ? [.. before, last with { Term = combined.With(adapter, _step.Weight, term) }]
            : current.Terms.Add(new WeightedTerm(
                new CombinedTerm(type, density, seed, current.Name, [new AdapterDelta(adapter, _step.Weight, [term])]), type.Name(), 1));
    }

    /// <summary>An adapter tensor and what its name says.</summary>
    private sealed record Part(AdapterName Name, StoredTensor Tensor);
}
