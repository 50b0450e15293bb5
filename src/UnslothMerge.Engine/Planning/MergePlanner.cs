using System.Collections.Immutable;
using UnslothMerge.Adapters;
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
    private readonly CheckpointNames _names;
    private ModelConfig _config;

    private MergePlanner(ModelDirectory @base, IEnumerable<LogicalTensor> tensors, IEnumerable<AdapterStep> steps, IEnumerable<AdapterTarget> targets, ModelConfig config)
    {
        _base = @base;
        _tensors = [.. tensors];
        _steps = [.. steps];
        _targets = [.. targets];
        _config = config;
        _names = new CheckpointNames(_tensors.Select(t => t.Name), config);
    }

    /// <summary>Plans a merge of adapters into a base; without adapters, a plain conversion.</summary>
    /// <exception cref="MergeException">An adapter cannot be merged, or does not fit.</exception>
    public static MergePlan Plan(ModelDirectory @base, IEnumerable<AdapterStep> steps)
    {
        var planner = new MergePlanner(@base, StoredFormats.Read(@base).Select(FromBase), [], [], @base.Config);
        return planner.Finish(steps);
    }

    /// <summary>Plans the merge of more adapters on top of another merge.</summary>
    /// <param name="plan">The merge to build on.</param>
    /// <param name="strengths">Factors on what that merge adds, by ordinal; 1 where absent.</param>
    /// <param name="steps">The adapters to add.</param>
    public static MergePlan Extend(MergePlan plan, IReadOnlyDictionary<int, double> strengths, IEnumerable<AdapterStep> steps)
    {
        var tensors = plan.Tensors.Select(t => t.WithStrength(strengths.GetValueOrDefault(t.Ordinal, 1)));
        return new MergePlanner(plan.Base, tensors, plan.Steps, plan.Targets, plan.Config).Finish(steps);
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
            AdapterRefusals.Check(step.Adapter);
            if (!double.IsFinite(step.Weight))
            {
                throw new MergeException(MergeError.InvalidOption, $"The weight of the adapter '{step.Adapter.Path}' is {step.Weight}; it must be a finite number.", step.Adapter.Path);
            }

            _steps.Add(step);
            new AdapterPlacement(this, step).Place();
        }

        Vocabulary();
        return new MergePlan(_base, [.. _steps], [.. _tensors], [.. _targets], _config);
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
        private readonly HashSet<string> _claimed = new(StringComparer.Ordinal);
        private readonly Dictionary<string, StoredTensor> _shared = new(StringComparer.Ordinal);
        private readonly Dictionary<string, int> _ordinals = plan._tensors.ToDictionary(t => t.Name, t => t.Ordinal, StringComparer.Ordinal);

        // What earlier adapters replaced must not be changed again, and what this one replaces takes its own deltas on top.
        private readonly HashSet<string> _replacedHere = new(StringComparer.Ordinal);
        private readonly HashSet<string> _changedBefore = plan._tensors.Where(t => t.IsChanged).Select(t => t.Name).ToHashSet(StringComparer.Ordinal);

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
                Bind(kinds, module.Key, modules.Count, [.. module.Select(p => (p.Name.Part, p.Tensor))]);
            }

            foreach (var tensor in step.Adapter.Weights.Tensors.Where(t => !_claimed.Contains(t.Name)))
            {
                _problems.TryAdd(tensor.Name, _shared.ContainsValue(tensor) ? "no module of the adapter that could be placed uses it" : "no rule knows what to do with it");
            }

            if (_problems.Count > 0)
            {
                throw DoesNotFit();
            }
        }

        public TargetTensor? Find(string module, string parameter) =>
            plan._names.Find($"{module}.{parameter}") is { } name ? new TargetTensor(name, plan._tensors[_ordinals[name]].Shape) : null;

        public void Add(TargetTensor tensor, string module, DeltaTerm term, MatrixView? view = null)
        {
            var ordinal = _ordinals[tensor.Name];
            var current = plan._tensors[ordinal];
            foreach (var input in term.Inputs.Where(i => Claim(i)))
            {
                if (_changedBefore.Contains(current.Name) && !(current.IsAdditive && term.IsAdditive))
                {
                    Problem(input, $"{current.Name} is changed by {string.Join(", ", current.Adapters)} too, and only sums can be combined, not a {(term.IsAdditive ? "replacement" : term.Kind)}");
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

            plan._tensors[ordinal] = current with
            {
                Action = current.Action is TensorAction.Replace or TensorAction.Add ? current.Action : TensorAction.Merge,
                SpecialView = view,
                Terms = current.Terms.Add(new WeightedTerm(term, step.Adapter.Name, step.Weight)),
                Adapters = WithThisAdapter(current),
            };
            plan._targets.Add(new AdapterTarget(step.Adapter.Name, module, term.Kind, term.Rank, term.Scaling, AdapterOutcome.Merged, current.Name, [.. term.Inputs.Select(i => i.Name)]));
        }

        public void Problem(StoredTensor tensor, string reason)
        {
            _claimed.Add(tensor.Name);
            _problems.TryAdd(tensor.Name, reason);
        }

        private void Bind(List<AdapterKind> kinds, string module, int modules, List<(string Part, StoredTensor Tensor)> parts)
        {
            foreach (var kind in kinds)
            {
                var mine = new Dictionary<string, StoredTensor>(StringComparer.Ordinal);
                foreach (var (part, tensor) in parts.Where(p => kind.Parts.Contains(p.Part) && !_claimed.Contains(p.Tensor.Name)))
                {
                    if (!mine.TryAdd(part, tensor))
                    {
                        Problem(tensor, $"it is the second {part} of {module}; the file holds more than one adapter");
                    }
                }

                if (mine.Count > 0)
                {
                    kind.Bind(new ModuleAdapter(module, step.Adapter.Config, mine, _shared) { Modules = modules }, this);
                }
            }

            foreach (var (_, tensor) in parts.Where(p => !_claimed.Contains(p.Tensor.Name)))
            {
                Unplaced(tensor, module, "weight");
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
            if (plan._names.Find(module.Length > 0 ? $"{module}.{parameter}" : parameter) is not { } name)
            {
                Unplaced(tensor, module, parameter);
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

        // Only a vocabulary may grow or shrink.
        private static bool SameOrResized(LogicalTensor current, StoredTensor tensor) =>
            current.Shape.SequenceEqual(tensor.Shape)
            || ((TensorNames.IsInputEmbedding(current.Name) || TensorNames.IsOutputHead(current.Name)) && current.Shape.Skip(1).SequenceEqual(tensor.Shape.Skip(1)));

        private bool Claim(StoredTensor tensor)
        {
            if (_claimed.Add(tensor.Name) || _shared.ContainsValue(tensor))
            {
                return true;
            }

            _problems.TryAdd(tensor.Name, "two rules claim it");
            return false;
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
