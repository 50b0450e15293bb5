using UnslothMerge.Adapters;

namespace UnslothMerge.Planning;

/// <summary>
/// Places the modules that an adapter saved whole (<c>modules_to_save</c>, resized embeddings, heads): each takes the place of the base's,
/// unless it is a copy of it.
/// </summary>
internal sealed class SavedModules(
    PlanDraft plan, AdapterStep step, AdapterClaims claims, TensorList before)
{
    /// <summary>What users see as the kind.</summary>
    public const string Kind = "SavedModule";

    // As earlier adapters left the tensors; every tensor is still at its ordinal.
    private readonly TensorList _before = before;
    private readonly HashSet<string> _replaced = new(StringComparer.Ordinal);
    private readonly Lazy<ILookup<string, StoredTensor>> _weights = new(() => step.Adapter.Weights.Tensors.ToLookup(t => t.Name));
    private readonly Lazy<TensorType> _type =
        new(() => plan.Tensors.Where(t => t.Type.IsPlainFloat()).CountBy(t => t.Type).MaxBy(t => t.Value).Key);

    /// <summary>Places what lies in a file beside the adapter. Only a head for multi-token prediction may be new to the base, and only as
    /// a whole.</summary>
    public void Place(TrainedFile file)
    {
        var isNew = file.MtpLayers is not null && file.Tensors.All(t => plan.Names.Find(t.Name) is null);
        foreach (var tensor in file.Tensors.Where(t => !IsRepeated(t)))
        {
            var name = AdapterNames.Parse(tensor.Name);
            if (isNew && claims.Claim(tensor) && CanAdd(tensor, "a new head"))
            {
                Add(tensor, name.Module, tensor.Name);
            }
            else if (!isNew)
            {
                Place(tensor, name.Module, name.Part);
            }
        }

        if (isNew)
        {
            plan.Config = plan.Config.WithMtpLayers(file.MtpLayers!.Value);
        }
    }

    /// <summary>Places one of them.</summary>
    public void Place(StoredTensor tensor, string module, string parameter)
    {
        claims.NextRule();
        if (plan.Names.Find(module.Length > 0 ? $"{module}.{parameter}" : parameter) is not { } name)
        {
            var head = plan.TaskHead ?? TaskHead.Of(step.Adapter.Config, plan.Config);
            if (head?.NameOf($"{module}.{parameter}") is { } part && tensor.Type.IsPlainFloat())
            {
                AddTaskHead(head, tensor, module, part);
            }
            else
            {
                claims.Unplaced(tensor, module, parameter);
            }

            return;
        }

        var ordinal = plan.Names.PlaceOf(name);
        var (before, current) = (_before[ordinal], plan.Tensors[ordinal]);
        if (!SameOrResized(current, tensor))
        {
            claims.Problem(tensor, $"{tensor.Shape.Text()} does not fit {name} {current.Shape.Text()}");
        }
        else if (!tensor.Type.IsPlainFloat())
        {
            claims.Problem(tensor, $"its dtype {tensor.Type} is not one of a saved module");
        }
        else if (SameValues.IsCopy(before.Source, tensor)
            || (_replaced.Contains(name) && SameValues.IsCopy(current.Source, tensor)))
        {
            Copied(tensor, module, name);
        }
        else if (step.Weight != 1)
        {
            claims.Problem(
                tensor, $"it replaces {name}, and a replacement cannot be weighted, so the adapter's weight must be 1, not {step.Weight}");
        }
        else if (before.IsChanged)
        {
            claims.Problem(
                tensor, $"it replaces {name}, which {string.Join(", ", current.Adapters)} changes too; only sums can be combined");
        }
        else if (!_replaced.Add(name))
        {
            claims.Problem(tensor, $"another tensor of the adapter replaces {name} as well");
        }
        else if (claims.Claim(tensor))
        {
            plan.Tensors[current.Ordinal] = current with
            {
                Source = new PlainSource(tensor),
                Action = TensorAction.Replace,
                Replaced = current,
                Adapters = current.AdaptersWith(step),
            };
            plan.Report(tensor, module, Kind, AdapterOutcome.Replaced, name);
        }
    }

    private void Copied(StoredTensor tensor, string module, string name)
    {
        if (claims.Claim(tensor))
        {
            plan.Report(tensor, module, Kind, AdapterOutcome.BaseCopy, name);
        }
    }

    private void AddTaskHead(TaskHead head, StoredTensor tensor, string module, string name)
    {
        if (!CanAdd(tensor, "the head of a new task"))
        {
            return;
        }

        var place = plan.Names.PlaceOf(name);
        if ((place >= 0 ? plan.Tensors[place] : plan.Added.GetValueOrDefault(name)) is { } other)
        {
            claims.Problem(
                tensor, $"{string.Join(", ", other.Adapters.DefaultIfEmpty("the base"))} has {name} too, and a model has only one head");
        }
        else if (claims.Claim(tensor))
        {
            Add(tensor, module, name);
            head.Bring(name, tensor);
            plan.TaskHead = head;
        }
    }

    private bool CanAdd(StoredTensor tensor, string what)
    {
        if (step.Weight != 1)
        {
            claims.Problem(tensor, $"it is {what}, which cannot be weighted, so the adapter's weight must be 1, not {step.Weight}");
        }

        return step.Weight == 1;
    }

    // Some trainers save a module both in the adapter and beside it.
    private bool IsRepeated(StoredTensor tensor) => _weights.Value[tensor.Name].Any(t =>
        t.Type == tensor.Type && t.Shape.SequenceEqual(tensor.Shape) && SameValues.Equal(t, tensor));

    private void Add(StoredTensor tensor, string module, string name)
    {
        var added = new LogicalTensor
        {
            Ordinal = plan.Tensors.Count,
            Name = name,
            Source = new PlainSource(tensor),
            Type = _type.Value,
            Action = TensorAction.Add,
            Adapters = [step.Name],
        };
        plan.Tensors.Add(added);
        plan.Added[name] = added;
        plan.Report(tensor, module, Kind, AdapterOutcome.Added, name);
    }

    // Only a vocabulary may grow or shrink.
    private static bool SameOrResized(LogicalTensor current, StoredTensor tensor) =>
        current.Shape.SequenceEqual(tensor.Shape)
        || ((TensorNames.IsInputEmbedding(current.Name) || TensorNames.IsOutputHead(current.Name))
            && current.Shape.Skip(1).SequenceEqual(tensor.Shape.Skip(1)));
}
