using System.Collections.Immutable;
using UnslothMerge.Adapters;
using UnslothMerge.Adapters.Combining;
using UnslothMerge.Formats;
using UnslothMerge.Models;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Planning;

/// <summary>
/// Plans a merge: places every tensor of every adapter in the base, or says which ones have no place. Reads headers only.
/// </summary>
public sealed class MergePlanner
{
    private readonly ModelDirectory _base;
    private readonly List<LogicalTensor> _tensors;
    private readonly List<AdapterStep> _steps;
    private readonly List<AdapterTarget> _targets;
    private readonly List<string> _warnings;
    private CheckpointNames _names;
    private TiedHead? _tiedHead;
    private bool _hasTaskHead;
    private readonly LayerTypes _layers;
    private readonly PlanOptions _options;
    private readonly int _firstStep;
    private ModelConfig _config;

    private MergePlanner(ModelDirectory @base, IEnumerable<LogicalTensor> tensors, IEnumerable<AdapterStep> steps, IEnumerable<AdapterTarget> targets, IEnumerable<string> warnings, ModelConfig config, PlanOptions? options)
    {
        _base = @base;
        _tensors = [.. tensors];
        _steps = [.. steps];
        _targets = [.. targets];
        _warnings = [.. warnings];
        _config = config;
        _options = options ?? new PlanOptions();
        _options.Check();
        _firstStep = _steps.Count;
        _layers = new LayerTypes(config);
        Index();
    }

    /// <summary>Plans a merge of adapters into a base; without adapters, a plain conversion.</summary>
    /// <param name="base">The base.</param>
    /// <param name="steps">The adapters.</param>
    /// <param name="options">What else shapes their deltas; null for the defaults.</param>
    /// <exception cref="MergeException">An adapter cannot be merged, or does not fit.</exception>
    public static MergePlan Plan(ModelDirectory @base, IEnumerable<AdapterStep> steps, PlanOptions? options = null)
    {
        var planner = new MergePlanner(@base, StoredFormats.Read(@base).Select(FromBase), [], [], [], @base.Config, options);
        return planner.Finish(steps);
    }

    /// <summary>Plans the merge of more adapters on top of another merge.</summary>
    /// <param name="plan">The merge to build on.</param>
    /// <param name="strengths">Factors on what that merge adds, by ordinal; 1 where absent.</param>
    /// <param name="steps">The adapters to add.</param>
    /// <param name="options">What else shapes their deltas: only theirs, which are then added to what the other merge adds. Null for the defaults.</param>
    public static MergePlan Extend(MergePlan plan, IReadOnlyDictionary<int, double> strengths, IEnumerable<AdapterStep> steps, PlanOptions? options = null)
    {
        var tensors = plan.Tensors.Select(t => t.WithStrength(strengths.GetValueOrDefault(t.Ordinal, 1)));
        return new MergePlanner(plan.Base, tensors, plan.Steps, plan.Targets, plan.Warnings, plan.Config, options).Finish(steps);
    }

    private static LogicalTensor FromBase(FoundTensor found, int ordinal) => new()
    {
        Ordinal = ordinal,
        Name = found.Name,
        Source = found.Source,
        Type = found.Source.Type,
        Action = found.Source.Verbatim is null ? TensorAction.Decode : TensorAction.Copy,
        SourceShard = found.Source.Inputs[0].File.Name,
    };

    private MergePlan Finish(IEnumerable<AdapterStep> steps)
    {
        foreach (var step in steps)
        {
            AdapterRefusals.Check(step.Adapter, _options.BaseIsResidual);
            if (!double.IsFinite(step.Weight))
            {
                throw new MergeException(MergeError.InvalidOption, $"The weight of the adapter '{step.Adapter.Path}' is {step.Weight}; it must be a finite number.", step.Adapter.Path);
            }

            _steps.Add(step);
            Replicate(step.Adapter);
            _warnings.AddRange(AdapterRefusals.Warnings(step.Adapter));
            new AdapterPlacement(this, step).Place();
        }

        if (_hasTaskHead)
        {
            // The new head takes the place of the language model's, tied or not.
            foreach (var head in _tensors.Where(t => TensorNames.IsOutputHead(t.Name) && t.IsChanged))
            {
                _warnings.Add($"'{head.Name}' is changed by {string.Join(", ", head.Adapters)}, but the merged model has the head of another task instead: these changes are not needed.");
                var changes = _targets.FindAll(t => t.Tensor == head.Name);
                _targets.RemoveAll(changes.Contains);
                _targets.AddRange(changes.Select(t => t with { Outcome = AdapterOutcome.NotNeeded, Tensor = null }));
            }

            _tensors.RemoveAll(t => TensorNames.IsOutputHead(t.Name));
        }
        else if (_tiedHead?.Resolve(_tensors, _options.KeepTied, _warnings) == true)
        {
            _config = _config.Untied();
        }

        Vocabulary();
        return new MergePlan(_base, [.. _steps], [.. _tensors.Select((t, ordinal) => t with { Ordinal = ordinal })], [.. _targets], [.. _warnings], _config);
    }

    // Names and ordinals are those of the deeper model from here on.
    private void Replicate(AdapterDirectory adapter)
    {
        var head = _tiedHead is { IsStored: false } tied ? _tensors.Find(t => t.Name == tied.Name) : null;
        if (LayerReplication.Of(adapter, _tensors) is not { } sources)
        {
            return;
        }

        if (_steps.Count > 1)
        {
            throw new MergeException(MergeError.UnsupportedAdapter, $"The adapter '{adapter.Path}' replicates layers, which only the first of several adapters can do.", adapter.Path, "Merge it first, and the others into the result.");
        }

        var deeper = LayerReplication.Apply([.. _tensors.Where(t => t != head)], sources);
        _tensors.Clear();
        _tensors.AddRange(deeper);
        _config = LayerReplication.Apply(_config, sources);
        Index();
    }

    // The tied head, if there is one, comes last, so that it can go again without moving another tensor.
    [System.Diagnostics.CodeAnalysis.MemberNotNull(nameof(_names))]
    private void Index()
    {
        _tiedHead = TiedHead.Find(_tensors, _config);
        if (_tiedHead is { IsStored: false })
        {
            _tensors.Add(_tiedHead.ToTensor(_tensors.Count));
        }

        _names = new CheckpointNames(_tensors.Select(t => t.Name), _config);
    }

    // An embedding that came back with more rows or fewer means another vocabulary; the head must follow.
    private void Vocabulary()
    {
        var embedding = _tensors.Find(t => TensorNames.IsInputEmbedding(t.Name) && t.Action == TensorAction.Replace);
        if (embedding is null || _base.Checkpoint.Find(embedding.Name)?.Shape[0] == embedding.Shape[0])
        {
            return;
        }

        var head = _tensors.Find(t => TensorNames.IsOutputHead(t.Name));
        if (head is not null && head.Shape[0] != embedding.Shape[0])
        {
            throw new MergeException(
                MergeError.AdapterDoesNotFit,
                $"The adapter '{_steps[^1].Adapter.Path}' resizes '{embedding.Name}' to {embedding.Shape[0]} rows, but '{head.Name}' has {head.Shape[0]}.",
                _steps[^1].Adapter.Path,
                "Save the adapter with both in modules_to_save.");
        }

        _config = _config.WithVocabulary(embedding.Shape[0]);
    }

    /// <summary>Places the tensors of one adapter.</summary>
    private sealed class AdapterPlacement(MergePlanner plan, AdapterStep step) : IAdapterTarget
    {
        private readonly Dictionary<string, string> _problems = new(StringComparer.Ordinal);
        private readonly Dictionary<string, int> _claimed = new(StringComparer.Ordinal);
        private readonly Dictionary<string, StoredTensor> _shared = new(StringComparer.Ordinal);

        // Counts the rules as they are asked: a rule may use a tensor in several deltas, two rules may not.
        private int _rule;

        private readonly Dictionary<string, int> _ordinals = plan._tensors.ToDictionary(t => t.Name, t => t.Ordinal, StringComparer.Ordinal);

        // What earlier adapters replaced must not be changed again, and what this one replaces takes its own deltas on top.
        private readonly HashSet<string> _replacedHere = new(StringComparer.Ordinal);
        private readonly ImmutableArray<LogicalTensor> _before = [.. plan._tensors];
        private readonly HashSet<string> _changedBefore = plan._tensors.Where(t => t.IsChanged).Select(t => t.Name).ToHashSet(StringComparer.Ordinal);

        public LayerTypes Layers => plan._layers;

        public void Place()
        {
            var kinds = AdapterKinds.Table.Where(k => k.PeftType == step.Adapter.Config.PeftType).ToList();
            var sharedParts = kinds.SelectMany(k => k.SharedParts).ToList();
            foreach (var tensor in step.Adapter.Weights.Tensors)
            {
                if (AdapterNames.Shared(tensor.Name, sharedParts) is { } name)
                {
                    _shared.Add(name, tensor);
                }
            }

            var parsed = step.Adapter.Weights.Tensors.Except(_shared.Values).Select(t => (Tensor: t, Name: AdapterNames.Parse(t.Name, AdapterKinds.Parts))).ToList();

            // Saved modules first: deltas are added to what they bring.
            foreach (var (tensor, name) in parsed.Where(p => !AdapterKinds.Parts.Contains(p.Name.Part)))
            {
                Replace(tensor, name.Module, name.Part);
            }

            var modules = parsed.Where(p => AdapterKinds.Parts.Contains(p.Name.Part)).GroupBy(p => p.Name.Module).ToList();
            foreach (var module in modules)
            {
                Bind(kinds, module.Key, modules.Count, [.. module.Select(p => (p.Name, p.Tensor))]);
            }

            foreach (var tensor in step.Adapter.Weights.Tensors.Where(t => !_claimed.ContainsKey(t.Name)))
            {
                _problems.TryAdd(tensor.Name, _shared.ContainsValue(tensor) ? "no module of the adapter that could be placed uses it" : "no rule knows what to do with it");
            }

            if (_problems.Count > 0)
            {
                throw DoesNotFit();
            }
        }

        public MoeOrientation? MoeOrientation => plan._options.MoeOrientation;

        public MoeLoraLayout? MoeLoraLayout => plan._options.MoeLoraLayout;

        public IReadOnlySet<string> ModelTypes { get; } = plan._config.ModelTypes;

        public TargetTensor? Find(string module, string parameter) => plan._names.Find($"{module}.{parameter}") is { } name ? Target(name) : null;

        public IReadOnlyDictionary<string, TargetTensor> Parameters(string module) =>
            plan._names.Parameters(module).ToDictionary(p => p.Parameter, p => Target(p.Name));

        public IReadOnlyList<ExpertTarget> Experts(string module) => [.. plan._names.Experts(module).Select(e => new ExpertTarget(e.Expert, e.Part, Target(e.Name)))];

        public void Add(string module, IReadOnlyList<TargetDelta> deltas)
        {
            foreach (var input in deltas.SelectMany(d => d.Term.Inputs).Distinct())
            {
                Claim(input);
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
                Claim(input);
            }

            Change(tensor, term, view);
            Report(tensor, module, term);
        }

        private TargetTensor Target(string name) => new(name, plan._tensors[_ordinals[name]].Shape, plan._tensors[_ordinals[name]].Source);

        private void Report(TargetTensor tensor, string module, DeltaTerm term) =>
            plan._targets.Add(new AdapterTarget(step.Adapter.Name, module, term.Kind, term.Rank, term.Scaling, AdapterOutcome.Merged, tensor.Name, [.. term.Inputs.Select(i => i.Name)]));

        private void Change(TargetTensor tensor, DeltaTerm term, MatrixView? view)
        {
            var ordinal = _ordinals[tensor.Name];
            var current = plan._tensors[ordinal];
            var before = _before[ordinal];
            var combines = before.Action is not (TensorAction.Replace or TensorAction.Add) && before.Terms.All(t => t.Term.CombinesWith(term));
            foreach (var input in term.Inputs)
            {
                if (!combines)
                {
                    Problem(input, $"{current.Name} is changed by {string.Join(", ", current.Adapters)} too, and only sums, or changes of one kind that act one after the other, can be combined, not a {(term.IsAdditive ? "replacement" : term.Kind)}");
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

            if (!term.IsAdditive && plan._options.Combination != CombinationType.Sum)
            {
                Problem(term.Inputs[0], $"a {term.Kind} is not a sum, so {plan._options.Combination.Name()} cannot combine it");
            }

            plan._tensors[ordinal] = current with
            {
                Action = current.Action is TensorAction.Replace or TensorAction.Add ? current.Action : TensorAction.Merge,
                SpecialView = view,
                Terms = WithTerm(current, term),
                Adapters = WithThisAdapter(current),
            };
        }

        public void Ignore(StoredTensor tensor, string module, string kind)
        {
            if (Claim(tensor))
            {
                plan._targets.Add(new AdapterTarget(step.Adapter.Name, module, kind, null, null, AdapterOutcome.NotNeeded, null, [tensor.Name]));
            }
        }

        public void Warn(string message)
        {
            if (!plan._warnings.Contains(message))
            {
                plan._warnings.Add(message);
            }
        }

        public void Problem(StoredTensor tensor, string reason)
        {
            _claimed.TryAdd(tensor.Name, _rule);
            _problems.TryAdd(tensor.Name, reason);
        }

        private void Bind(List<AdapterKind> kinds, string module, int modules, List<(AdapterName Name, StoredTensor Tensor)> parts)
        {
            foreach (var kind in kinds)
            {
                var levels = new SortedDictionary<int, Dictionary<string, StoredTensor>>();
                foreach (var (name, tensor) in parts.Where(p => kind.Parts.Contains(p.Name.Part) && !_claimed.ContainsKey(p.Tensor.Name)))
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
                    _rule++;
                    kind.Bind(new ModuleAdapter(module, step.Adapter.Config, levels.Values.First(), _shared) { Modules = modules, Levels = [.. levels.Values] }, this);
                }
            }

            foreach (var (_, tensor) in parts.Where(p => !_claimed.ContainsKey(p.Tensor.Name)))
            {
                if (Find(module, "weight") is null)
                {
                    Unplaced(tensor, module, "weight");
                }
            }
        }

        private void Unplaced(StoredTensor tensor, string module, string parameter)
        {
            var layers = plan._tensors.Max(t => TensorNames.Layer(t.Name));
            var layer = TensorNames.Layer($"{module}.{parameter}");
            Problem(tensor, layer > layers ? $"the base has {layers + 1} layers" : $"the base has no {module}.{parameter}");
        }

        private void Replace(StoredTensor tensor, string module, string parameter)
        {
            _rule++;
            if (plan._names.Find(module.Length > 0 ? $"{module}.{parameter}" : parameter) is not { } name)
            {
                if (TaskHead.Is(step.Adapter.Config, plan._config, module) && tensor.Type.IsPlainFloat())
                {
                    AddTaskHead(tensor, module, parameter);
                }
                else
                {
                    Unplaced(tensor, module, parameter);
                }

                return;
            }

            var current = plan._tensors[_ordinals[name]];
            if (!SameOrResized(current, tensor))
            {
                Problem(tensor, $"{tensor.Shape.Text()} does not fit {name} {current.Shape.Text()}");
            }
            else if (!tensor.Type.IsPlainFloat())
            {
                Problem(tensor, $"its dtype {tensor.Type} is not one of a saved module");
            }
            else if (SavedCopy.IsCopy(_before[current.Ordinal].Source, tensor))
            {
                Copied(tensor, module, name);
            }
            else if (step.Weight != 1)
            {
                Problem(tensor, $"it replaces {name}, and a replacement cannot be weighted, so the adapter's weight must be 1, not {step.Weight}");
            }
            else if (_changedBefore.Contains(name))
            {
                Problem(tensor, $"it replaces {name}, which {string.Join(", ", current.Adapters)} changes too; only sums can be combined");
            }
            else if (!_replacedHere.Add(name))
            {
                Problem(tensor, $"another tensor of the adapter replaces {name} as well");
            }
            else if (Claim(tensor))
            {
                plan._tensors[current.Ordinal] = current with { Source = new PlainSource(tensor), Action = TensorAction.Replace, SourceShard = tensor.File.Name, Adapters = WithThisAdapter(current) };
                plan._targets.Add(new AdapterTarget(step.Adapter.Name, module, "SavedModule", null, null, AdapterOutcome.Replaced, name, [tensor.Name]));
            }
        }

        private void Copied(StoredTensor tensor, string module, string name)
        {
            if (Claim(tensor))
            {
                plan._targets.Add(new AdapterTarget(step.Adapter.Name, module, "SavedModule", null, null, AdapterOutcome.BaseCopy, name, [tensor.Name]));
            }
        }

        private void AddTaskHead(StoredTensor tensor, string module, string parameter)
        {
            var name = $"{module}.{parameter}";
            if (step.Weight != 1)
            {
                Problem(tensor, $"it is the head of a new task, which cannot be weighted, so the adapter's weight must be 1, not {step.Weight}");
                return;
            }

            if (plan._tensors.Find(t => t.Name == name) is { } other)
            {
                Problem(tensor, $"{string.Join(", ", other.Adapters)} brings {name} too, and a model has only one head");
                return;
            }

            if (!Claim(tensor))
            {
                return;
            }

            plan._tensors.Add(new LogicalTensor
            {
                Ordinal = plan._tensors.Count,
                Name = name,
                Source = new PlainSource(tensor),
                Type = plan._tensors.Find(t => TensorNames.IsInputEmbedding(t.Name))?.Type ?? tensor.Type,
                Action = TensorAction.Add,
                SourceShard = tensor.File.Name,
                Adapters = [step.Adapter.Name],
            });
            plan._targets.Add(new AdapterTarget(step.Adapter.Name, module, "SavedModule", null, null, AdapterOutcome.Added, name, [tensor.Name]));
            plan._config = TaskHead.Apply(plan._config, step.Adapter.Config, tensor.Shape[0]);
            plan._hasTaskHead = true;
        }

        // Only a vocabulary may grow or shrink.
        private static bool SameOrResized(LogicalTensor current, StoredTensor tensor) =>
            current.Shape.SequenceEqual(tensor.Shape)
            || ((TensorNames.IsInputEmbedding(current.Name) || TensorNames.IsOutputHead(current.Name)) && current.Shape.Skip(1).SequenceEqual(tensor.Shape.Skip(1)));

        private bool Claim(StoredTensor tensor)
        {
            if (_claimed.TryAdd(tensor.Name, _rule) || _claimed[tensor.Name] == _rule || _shared.ContainsValue(tensor))
            {
                return true;
            }

            _problems.TryAdd(tensor.Name, "two rules claim it");
            return false;
        }

        // All terms of this run on a tensor are one, unless they are simply added.
        private ImmutableArray<WeightedTerm> WithTerm(LogicalTensor current, DeltaTerm term)
        {
            if (plan._options is not { Combination: not CombinationType.Sum and var type, Density: { } density, Seed: var seed })
            {
                return current.Terms.Insert(term.Composition == DeltaComposition.Before ? 0 : current.Terms.Length, new WeightedTerm(term, step.Adapter.Name, step.Weight));
            }

            var adapter = plan._steps.Count - 1;
            return current.Terms is [.. var before, { Term: CombinedTerm combined } last] && combined.Deltas[0].Adapter >= plan._firstStep
                ? [.. before, last with { Term = combined.With(adapter, step.Weight, term) }]
                : current.Terms.Add(new WeightedTerm(new CombinedTerm(type, density, seed, current.Name, [new AdapterDelta(adapter, step.Weight, [term])]), type.Name(), 1));
        }

        private ImmutableArray<string> WithThisAdapter(LogicalTensor tensor) =>
            tensor.Adapters.Contains(step.Adapter.Name) ? tensor.Adapters : tensor.Adapters.Add(step.Adapter.Name);

        private MergeException DoesNotFit()
        {
            const int shown = 10;
            var total = step.Adapter.Weights.Tensors.Count;
            var lines = _problems.Take(shown).Select(p => $"  {p.Key}: {p.Value}{Nearest(p.Key, p.Value)}");
            var more = _problems.Count > shown ? $"\n  … and {_problems.Count - shown} more." : "";
            var trainedOn = step.Adapter.Config.BaseModel is { } name ? $"The adapter was trained on '{name}'. Pass that model, or its local folder, as the base." : "Pass the model that the adapter was trained on as the base.";
            return new MergeException(
                MergeError.AdapterDoesNotFit,
                $"The adapter '{step.Adapter.Path}' does not fit the base '{plan._base.Path}' ({plan._base.Title}): {_problems.Count} of its {total} tensors found no place.\n{string.Join('\n', lines)}{more}",
                step.Adapter.Path,
                trainedOn) { Details = [.. _problems.Select(p => $"{p.Key}: {p.Value}")] };
        }

        // Searching the nearest names takes time, so only those that are shown are searched.
        private string Nearest(string tensor, string reason)
        {
            if (!reason.StartsWith("the base has no ", StringComparison.Ordinal))
            {
                return "";
            }

            var name = AdapterNames.Parse(tensor, AdapterKinds.Parts);
            var nearest = plan._names.Nearest(AdapterKinds.Parts.Contains(name.Part) ? $"{name.Module}.weight" : $"{name.Module}.{name.Part}");
            return nearest.Count > 0 ? $" (nearest: {string.Join(", ", nearest)})" : "";
        }
    }
}
