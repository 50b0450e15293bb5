namespace UnslothMerge.PowerShell.Reports;

/// <summary>A tensor of a report.</summary>
internal sealed record ReportTensor(
    string Name, string Action, string Shape, string Format, long Bytes, double? RelativeChange, double? RelativeError)
{
    /// <summary>A tensor as it was saved.</summary>
    public static ReportTensor Of(SavedTensor tensor) => new(
        tensor.Name, tensor.Action, tensor.Shape.ToString(), tensor.Format, tensor.Bytes, tensor.RelativeChange, tensor.RelativeError);

    /// <summary>True if an adapter changed it.</summary>
    public bool IsChanged => Action is "Merge" or "Replace" or "Add";

    /// <summary>The row of a heat map: null outside the layers.</summary>
    public int? Layer { get; } = TensorNames.Layer(Name);

    /// <summary>The part of the model.</summary>
    public string Component { get; } = TensorNames.Component(Name);

    /// <summary>The column of a heat map: the module with its experts as one, and what is no weight by its name.</summary>
    public string Column { get; } =
        Regex.Replace(TensorNames.Module(Name), @"\.\d+(?=\.|$)", ".*")
            + (Name.EndsWith(".weight", StringComparison.Ordinal) ? "" : Name[Name.LastIndexOf('.')..]);
}

/// <summary>What a report shows: every number is that of an object or of merge.json.</summary>
internal sealed record MergeReport(string Model, JsonObject? Record, IReadOnlyList<ReportTensor> Tensors)
{
    /// <summary>The sources of the merge that are known by path.</summary>
    public IReadOnlyList<string> Sources { get; init; } = [];

    /// <summary>The saved shards, where they came from the pipeline.</summary>
    public IReadOnlyList<SavedModelShard> Shards { get; init; } = [];

    /// <summary>The checks of Test-MergedModel.</summary>
    public IReadOnlyList<ModelCheck> Checks { get; init; } = [];

    /// <summary>What Get-MergeMemoryPlan planned.</summary>
    public MergeMemoryPlan? Plan { get; init; }

    /// <summary>The peak memory of this process, if it saved the model.</summary>
    public long? PeakBytes { get; init; }

    /// <summary>The names that adapters have something for, and that keep the values of the base.</summary>
    public IReadOnlyList<string> LeftOut { get; init; } = [];
}
