using UnslothMerge.Adapters;

namespace UnslothMerge.Planning;

/// <summary>
/// Plans a merge: places every tensor of every adapter in the base, or says which ones have no place. Nearly all of it is known from
/// headers. Values are read only by <see cref="SameValues"/> (is a saved module a copy of the base's? are head and embedding the same?),
/// by <see cref="Adapters.Kinds.TinyLora"/> (16 values of a module, where modules have vectors of their own), and by the formats
/// (bitsandbytes' quant_state, compressed-tensors' weight_shape).
/// </summary>
internal static partial class MergePlanner
{
    /// <summary>Plans a merge of adapters into a base; without adapters, a plain conversion.</summary>
    public static MergePlan Plan(ModelDirectory @base, IEnumerable<AdapterStep> steps, PlanOptions? options = null) =>
        Place(new MergePlan(@base, [], FromBase(@base), [], [], @base.Config), steps, options);

    /// <summary>Plans the merge of more adapters on top of another merge. Strengths are factors on what that merge adds, by ordinal, 1
    /// where absent. The options hold for the new adapters alone.</summary>
    public static MergePlan Extend(
        MergePlan plan, IReadOnlyDictionary<int, double> strengths, IEnumerable<AdapterStep> steps, PlanOptions? options = null)
    {
        var tensors = plan.Tensors.Select(t => t.WithStrength(strengths.GetValueOrDefault(t.Ordinal, 1)) with { Strength = 1 });
        var leftOut = plan.Tensors.Where(t => strengths.GetValueOrDefault(t.Ordinal, 1) == 0).Select(t => t.Name)
            .ToHashSet(StringComparer.Ordinal);
        var targets = plan.Targets.Select(t =>
            t.Tensor is { } name && leftOut.Contains(name) ? t with { Outcome = AdapterOutcome.NotNeeded } : t);
        var start = new MergePlan(plan.Base, plan.Steps, [.. tensors], [.. targets], plan.Warnings, plan.Config)
        {
            Earlier = plan.Earlier.Add(new EarlierMerge(
                plan.Steps.Length - plan.Earlier.Sum(e => e.Adapters),
                StrengthRules.For(plan.Tensors, t => strengths.GetValueOrDefault(t.Ordinal, 1)))),
        };
        return Place(start, steps, options);
    }

    private static IReadOnlyList<LogicalTensor> FromBase(ModelDirectory @base)
    {
        var isQuantized = @base.Config.Quantization is not null;
        var tensors = new MappedList<FoundTensor, LogicalTensor>(StoredFormats.Read(@base), (found, ordinal) => new LogicalTensor
        {
            Ordinal = ordinal,
            Name = CheckpointNames.Unwrapped(found.Name),
            Source = found.Source,
            Type = found.Source.Type,
            Action = found.Source.Verbatim is null ? TensorAction.Decode : TensorAction.Copy,
            IsCacheScale = isQuantized && CacheScale().IsMatch(found.Name),
        });
        var names = new NameIndex(i => tensors[i].Name, tensors.Count);
        foreach (var tensor in tensors)
        {
            if (!MatrixView.CanBeOf(tensor.Shape))
            {
                throw new MergeException(
                    MergeError.UnsupportedFormat,
                    $"'{tensor.Name}' of '{@base.Path}' is {tensor.Shape.Text()}: rows of more than {int.MaxValue} values cannot be "
                    + "merged.",
                    tensor.Name, "Download the model again; no model has such a tensor.");
            }

            if (!names.TryAdd())
            {
                throw new MergeException(
                    MergeError.InvalidModel, $"'{@base.Path}' has the tensor '{tensor.Name}' twice, under the names of two wrappers.",
                    tensor.Name, "Save the model again without what wraps its modules.");
            }
        }

        return isQuantized ? tensors.ToArray() : tensors;
    }

    private static MergePlan Place(MergePlan start, IEnumerable<AdapterStep> steps, PlanOptions? options)
    {
        var draft = new PlanDraft(start, options);
        foreach (var given in steps)
        {
            var step = given with { Adapter = given.Adapter.For(draft.Base), Options = draft.Options };
            AdapterRefusals.Check(step.Adapter, draft.Options.BaseIsResidual);
            if (!double.IsFinite(step.Weight))
            {
                throw new MergeException(
                    MergeError.InvalidOption,
                    $"The weight of the adapter '{step.Adapter.Path}' is {step.Weight}; it must be a finite number.", step.Adapter.Path);
            }

            if (!draft.Options.AllowMergedBase)
            {
                MergeRecord.RequireUnmerged(draft.Base, step.Adapter);
            }

            step = step.NamedUnlike(draft.Steps);
            draft.Steps.Add(step);
            draft.Replicate(step.Adapter);
            if (NamedBase.Compare(draft.Base, step.Adapter) is { NeedsWarning: true, Text: var text })
            {
                draft.Warnings.Add(new MergeWarning(MergeWarningId.OtherBase, text));
            }

            new AdapterPlacement(draft, step).Place();
            draft.Warnings.AddRange(AdapterWarnings.Of(step.Adapter, draft));
        }

        var plan = draft.Finish();
        Garbage.Release(plan.Tensors.Count);
        return plan;
    }

    // Of compressed-tensors in the attention, of ModelOpt in its projections.
    [GeneratedRegex(@"\.(q|k|v|kv|prob)_(scale|zero_point)$")]
    private static partial Regex CacheScale();
}
