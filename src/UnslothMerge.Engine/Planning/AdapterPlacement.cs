using System.Collections.Immutable;
using UnslothMerge.Adapters;
using UnslothMerge.Adapters.Combining;
using UnslothMerge.Formats;
using UnslothMerge.Models;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Planning;

/// <summary>Places the tensors of one adapter.</summary>
internal sealed class AdapterPlacement(PlanDraft plan, AdapterStep step) : IAdapterTarget
{
    private readonly AdapterClaims _claims = new(step.Adapter, plan);
    private readonly Dictionary<string, int> _ordinals = plan.Tensors.ToDictionary(t => t.Name, t => t.Ordinal, StringComparer.Ordinal);

    // What earlier adapters replaced must not be changed again, and what this one replaces takes its own deltas on top.
    private readonly ImmutableArray<LogicalTensor> _before = [.. plan.Tensors];

    /// <summary>Places them.</summary>
    /// <exception cref="MergeException">Some have no place.</exception>
    public void Place()
    {
        var kinds = AdapterKinds.Table.Where(k => k.PeftType == step.Adapter.Config.PeftType).ToList();
        var sharedParts = kinds.SelectMany(k => k.SharedParts).ToList();
        foreach (var tensor in step.Adapter.Weights.Tensors)
        {
            if (AdapterNames.Shared(tensor.Name, sharedParts) is { } name)
            {
                _claims.Shared.Add(name, tensor);
            }
        }

        var parsed = step.Adapter.Weights.Tensors.Except(_claims.Shared.Values)
            .Select(t => new Part(AdapterNames.Parse(t.Name, AdapterKinds.Parts), t))
            .ToLookup(p => AdapterKinds.Parts.Contains(p.Name.Part));

        // Saved modules first: deltas are added to what they bring.
        var saved = new SavedModules(plan, step, _claims);
        foreach (var (name, tensor) in parsed[false])
        {
            saved.Place(tensor, name.Module, name.Part);
        }

        var modules = parsed[true].GroupBy(p => p.Name.Module).ToList();
        foreach (var module in modules)
        {
            Bind(kinds, module.Key, modules.Count, [.. module]);
        }

        _claims.RequireAll();
    }

    public LayerTypes Layers => plan.Layers;

    public MoeOrientation? MoeOrientation => plan.Options.MoeOrientation;

    public MoeLoraLayout? MoeLoraLayout => plan.Options.MoeLoraLayout;

    public IReadOnlySet<string> ModelTypes { get; } = plan.Config.ModelTypes;

    public TargetTensor? Find(string module, string parameter) => plan.Names.Find($"{module}.{parameter}") is { } name ? Target(name) : null;

    public IReadOnlyDictionary<string, TargetTensor> Parameters(string module) =>
        plan.Names.Parameters(module).ToDictionary(p => p.Parameter, p => Target(p.Name));

    public IReadOnlyList<ExpertTarget> Experts(string module) => [.. plan.Names.Experts(module).Select(e => new ExpertTarget(e.Expert, e.Part, Target(e.Name)))];

    public void Add(string module, IReadOnlyList<TargetDelta> deltas)
    {
        foreach (var input in deltas.SelectMany(d => d.Term.Inputs).Distinct())
        {
            _claims.Claim(input);
        }

        foreach (var delta in deltas)
        {
            Change(delta.Tensor, delta.Term, null);
        }

        foreach (var delta in deltas.DistinctBy(d => d.Tensor.Name))
        {
            Report(delta.Tensor, module, delta.Term);
        }
    }

    public void Add(TargetTensor tensor, string module, DeltaTerm term, MatrixView? view = null)
    {
        foreach (var input in term.Inputs)
        {
            _claims.Claim(input);
        }

        Change(tensor, term, view);
        Report(tensor, module, term);
    }

    public void Ignore(StoredTensor tensor, string module, string kind)
    {
        if (_claims.Claim(tensor))
        {
            plan.Targets.Add(new AdapterTarget(step.Adapter.Name, module, kind, null, null, AdapterOutcome.NotNeeded, null, [tensor.Name]));
        }
    }

    public void Warn(string message)
    {
        if (!plan.Warnings.Contains(message))
        {
            plan.Warnings.Add(message);
        }
    }

    public void Problem(StoredTensor tensor, string reason) => _claims.Problem(tensor, reason);

    private void Bind(List<AdapterKind> kinds, string module, int modules, List<Part> parts)
    {
        foreach (var kind in kinds)
        {
            var levels = new SortedList<int, Dictionary<string, StoredTensor>>();
            foreach (var (name, tensor) in parts.Where(p => kind.Parts.Contains(p.Name.Part) && !_claims.Has(p.Tensor)))
            {
                var depth = kind.Nests ? name.Depth : 0;
                if (!levels.TryGetValue(depth, out var mine))
                {
                    levels.Add(depth, mine = new(StringComparer.Ordinal));
                }

                if (!mine.TryAdd(name.Part, tensor))
                {
                    Problem(tensor, $"it is the second {name.Part} of {module}; the file holds more than one adapter");
                }
            }

            if (levels.Count > 0)
            {
                _claims.NextRule();
                kind.Bind(new ModuleAdapter(module, step.Adapter.Config, levels.Values.First(), _claims.Shared) { Modules = modules, Levels = [.. levels.Values] }, this);
            }
        }

        foreach (var (_, tensor) in parts.Where(p => !_claims.Has(p.Tensor)))
        {
            if (Find(module, "weight") is null)
            {
                _claims.Unplaced(tensor, module, "weight");
            }
        }
    }

    private void Change(TargetTensor tensor, DeltaTerm term, MatrixView? view)
    {
        var ordinal = _ordinals[tensor.Name];
        var current = plan.Tensors[ordinal];
        var before = _before[ordinal];
        var combines = before.Action is not (TensorAction.Replace or TensorAction.Add) && before.Terms.All(t => t.Term.CombinesWith(term));
        foreach (var input in term.Inputs)
        {
            if (!combines)
            {
                var other = before.Action is TensorAction.Replace or TensorAction.Add ? "a replacement" : string.Join(" and ", before.Terms.Select(t => t.Term.Kind).Distinct());
                Problem(input, $"{current.Name} is changed by {string.Join(", ", before.Adapters)} too ({other}), and only sums, or changes of one kind that act one after the other, can be combined with a {term.Kind}");
            }
        }

        view ??= MatrixView.Of(tensor.Shape);
        if (current.Terms.Length > 0 && current.View != view)
        {
            Problem(term.Inputs[0], $"it sees {current.Name} as another matrix than the other changes to it");
        }

        if (!term.IsAdditive && step.Weight != 1)
        {
            Problem(term.Inputs[0], $"a {term.Kind} cannot be weighted, so the adapter's weight must be 1, not {step.Weight}");
        }

        if (!term.IsAdditive && plan.Options.Combination != CombinationType.Sum)
        {
            Problem(term.Inputs[0], $"a {term.Kind} is not a sum, so {plan.Options.Combination.Name()} cannot combine it");
        }

        plan.Tensors[ordinal] = current with
        {
            Action = current.Action is TensorAction.Replace or TensorAction.Add ? current.Action : TensorAction.Merge,
            SpecialView = view,
            Terms = WithTerm(current, term),
            Adapters = current.AdaptersWith(step),
        };
    }

    private void Report(TargetTensor tensor, string module, DeltaTerm term) =>
        plan.Targets.Add(new AdapterTarget(step.Adapter.Name, module, term.Kind, term.Rank, term.Scaling, AdapterOutcome.Merged, tensor.Name, [.. term.Inputs.Select(i => i.Name)]));

    private TargetTensor Target(string name) => new(name, plan.Tensors[_ordinals[name]].Shape, plan.Tensors[_ordinals[name]].Source);

    // All terms of this run on a tensor are one, unless they are simply added.
    private ImmutableArray<WeightedTerm> WithTerm(LogicalTensor current, DeltaTerm term)
    {
        if (plan.Options is not { Combination: not CombinationType.Sum and var type, Density: { } density, Seed: var seed })
        {
            return current.Terms.Insert(term.Composition == DeltaComposition.Before ? 0 : current.Terms.Length, new WeightedTerm(term, step.Adapter.Name, step.Weight));
        }

        var adapter = plan.Steps.Count - 1;
        return current.Terms is [.. var before, { Term: CombinedTerm combined } last] && combined.Deltas[0].Adapter >= plan.FirstStep
            ? [.. before, last with { Term = combined.With(adapter, step.Weight, term) }]
            : current.Terms.Add(new WeightedTerm(new CombinedTerm(type, density, seed, current.Name, [new AdapterDelta(adapter, step.Weight, [term])]), type.Name(), 1));
    }

    /// <summary>An adapter tensor and what its name says.</summary>
    private sealed record Part(AdapterName Name, StoredTensor Tensor);
}
