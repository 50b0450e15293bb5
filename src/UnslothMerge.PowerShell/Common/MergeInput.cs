using UnslothMerge.Adapters;

namespace UnslothMerge.PowerShell.Common;

/// <summary>The tensors of one merge, collected from the pipeline in any order.</summary>
internal sealed class MergeInput
{
    // Only those that adapters change have a strength to keep: a large base has few of them.
    private readonly Dictionary<int, MergeTensor> _changed = [];
    private bool[] _given = [];

    /// <summary>The merge that all of them belong to; null before the first.</summary>
    public MergePlan? Plan { get; private set; }

    /// <summary>What the output was planned to be.</summary>
    public PlannedOutput? Output { get; private set; }

    /// <summary>The tensors in the plan's order.</summary>
    public IEnumerable<LogicalTensor> Tensors => (Plan?.Tensors ?? []).Where(t => _given[t.Ordinal]);

    /// <summary>The factors that the user gave, by ordinal.</summary>
    public IReadOnlyDictionary<int, double> Strengths =>
        _changed.Where(t => t.Value.Strength is not null).ToDictionary(t => t.Key, t => t.Value.Strength!.Value);

    /// <summary>Takes one object from the pipeline.</summary>
    public void Add(object? item)
    {
        var value = item is PSObject wrapped ? wrapped.BaseObject : item;
        if (value is not MergeTensor tensor)
        {
            var restored = item is PSObject { TypeNames: var names } && names.Any(n => n == $"Deserialized.{typeof(MergeTensor).FullName}");
            throw restored
                ? new MergeException(
                    MergeError.InvalidOption,
                    "A tensor that was serialized and restored (by a job, a remote session or Export-Clixml) has no merge "
                    + "any more.",
                    "InputObject",
                    "Run Merge-LoraModel and Save-MergedModel in the same session.")
                : new MergeException(
                    MergeError.InvalidOption,
                    $"The input is {(value is null ? "null" : $"a {value.GetType().FullName}")}, not a tensor from Merge-LoraModel.",
                    "InputObject", "Pipe the output of Merge-LoraModel here, filtered or changed but without converting the objects.");
        }

        if (Plan is null)
        {
            (Plan, _given) = (tensor.Plan, new bool[tensor.Plan.Tensors.Count]);
        }

        Output ??= tensor.Output;
        if (Plan != tensor.Plan)
        {
            throw new MergeException(
                MergeError.InvalidOption, $"'{tensor.Name}' belongs to another merge than the tensors before it.", tensor.Name,
                "Save one merge at a time; to combine adapters use Merge-LoraModel … | Merge-LoraModel -Adapter ….");
        }

        if (_given[tensor.Ordinal])
        {
            throw new MergeException(MergeError.InvalidOption, $"'{tensor.Name}' is in the pipeline twice.", tensor.Name,
                "Pipe every tensor once.");
        }

        _given[tensor.Ordinal] = true;
        if (tensor.Strength is not null)
        {
            _changed.Add(tensor.Ordinal, tensor);
        }
    }

    /// <summary>The tensors to write, with their strengths.</summary>
    public IReadOnlyList<LogicalTensor> Select(bool allowPartial, string destination)
    {
        var missing = Plan!.Tensors.Where(t => !_given[t.Ordinal]).Select(t => t.Name).ToList();
        if (missing.Count > 0 && !allowPartial)
        {
            throw new MergeException(
                MergeError.IncompleteModel,
                $"{missing.Count} of {Plan.Tensors.Count} tensors are missing "
                + $"({string.Join(", ", missing.Take(2))}{(missing.Count > 2 ? ", …" : "")}), so '{destination}' would not load.",
                destination,
                "To keep layers of the base, set their Strength to 0; to write a part of a model use -AllowPartial.") { Details = missing };
        }

        return [.. Tensors.Select(t => t.WithStrength(_changed.TryGetValue(t.Ordinal, out var given) ? given.Strength ?? 1 : 1))];
    }

    /// <summary>The adapters with their weights: none (all 1), or one for each.</summary>
    public static IReadOnlyList<AdapterStep> Steps(IReadOnlyList<FetchedModel> adapters, double[]? weights) =>
        weights is null || weights.Length == adapters.Count
            ? [.. adapters.Select((a, i) => new AdapterStep(AdapterDirectory.Open(a.Directory), weights?[i] ?? 1))]
            : throw new MergeException(
                MergeError.InvalidOption,
                $"There {(adapters.Count == 1 ? "is" : "are")} {Amount.Text(adapters.Count, "adapter")}, but "
                + $"{Amount.Text(weights.Length, "weight")}.",
                "Weight",
                "Give one -Weight for each -Adapter, in the same order.");
}
