namespace UnslothMerge.PowerShell;

/// <summary>A planned tensor of a merge. Save-MergedModel computes it, any number of times. It holds no file open.</summary>
public sealed class MergeTensor
{
    private readonly LogicalTensor _tensor;
    private double? _strength;

    internal MergeTensor(MergePlan plan, LogicalTensor tensor)
    {
        Plan = plan;
        _tensor = tensor;
        _strength = tensor.IsChanged ? 1 : null;
    }

    /// <summary>The name in the merged checkpoint.</summary>
    public string Name => _tensor.Name;

    /// <summary>What happens to it: Copy, Decode, Merge, Replace or Add.</summary>
    public string Action => _tensor.Action.ToString();

    /// <summary>The shape.</summary>
    public TensorShape Shape => field ??= new TensorShape(_tensor.Shape);

    /// <summary>The dimensions of the shape as numbers.</summary>
    public long[] Dimensions => [.. Shape.Dimensions];

    /// <summary>The dtype in the base: BF16, F16, F32 …</summary>
    public string DType => _tensor.Type.ToString();

    /// <summary>The format in the base: the dtype, or a quantized format such as NF4.</summary>
    public string Format => _tensor.Source.Format;

    /// <summary>The layer's number; null outside the layers.</summary>
    public int? Layer => Models.TensorNames.Layer(Name);

    /// <summary>The module within its layer, for example <c>self_attn.q_proj</c>.</summary>
    public string Module => Models.TensorNames.Module(Name);

    /// <summary>The part of a multi-modal model: text, vision, audio or projector.</summary>
    public string Component => Models.TensorNames.Component(Name);

    /// <summary>The largest rank of its deltas; null without deltas.</summary>
    public int? Rank => _tensor.Rank;

    /// <summary>The names of the adapters that change it.</summary>
    public string[] Adapters => [.. _tensor.Adapters];

    /// <summary>The factor of the deltas: 1 merges as trained, 0 keeps the base, any finite number is allowed. Null for a tensor that does
    /// not change. Save-MergedModel refuses values other than 0 and 1 for changes that are not additive, such as replacements.</summary>
    public double? Strength
    {
        get => _strength;
        set => _strength = _tensor.IsChanged ? value ?? 1 : null;
    }

    /// <summary>The elements.</summary>
    public long Parameters => Shape.Count;

    /// <summary>The file of its source.</summary>
    public string SourceShard => _tensor.SourceShard;

    internal MergePlan Plan { get; }

    /// <summary>What the output was planned to be.</summary>
    internal Common.PlannedOutput? Output { get; init; }

    /// <summary>What the table says below the last tensor.</summary>
    internal string? Note { get; init; }

    internal int Ordinal => _tensor.Ordinal;

    public override string ToString() => Name;
}
