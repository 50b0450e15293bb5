using UnslothMerge.Planning;

namespace UnslothMerge.PowerShell;

/// <summary>
/// A tensor of a merge that has been planned and not computed. Filter, group and change it, then pipe it to Save-MergedModel. It holds no
/// file open and can be saved any number of times.
/// </summary>
public sealed class MergeTensor
{
    private readonly LogicalTensor _tensor;
    private double? _strength;

    internal MergeTensor(MergePlan plan, LogicalTensor tensor)
    {
        Plan = plan;
        _tensor = tensor;
        _strength = tensor.IsChanged ? 1 : null;
        Shape = new TensorShape(tensor.Shape);
    }

    /// <summary>The name in the merged checkpoint.</summary>
    public string Name => _tensor.Name;

    /// <summary>What happens to it: Copy, Decode, Merge, Replace or Add.</summary>
    public string Action => _tensor.Action.ToString();

    /// <summary>The shape.</summary>
    public TensorShape Shape { get; }

    /// <summary>The dtype in the base: BF16, F16, F32 …</summary>
    public string DType => _tensor.Type.ToString();

    /// <summary>The format in the base: the dtype, or NF4 and the like.</summary>
    public string Format => _tensor.Source.Format;

    /// <summary>The layer's number; null outside the layers.</summary>
    public int? Layer => Models.TensorNames.Layer(Name);

    /// <summary>The module within its layer, for example <c>self_attn.q_proj</c>.</summary>
    public string Module => Models.TensorNames.Module(Name);

    /// <summary>The part of a multi-modal model: text, vision, audio or projector.</summary>
    public string Component => Models.TensorNames.Component(Name);

    /// <summary>The largest rank of its deltas; null where it has none.</summary>
    public int? Rank => _tensor.Rank;

    /// <summary>The adapters that change it, separated by commas.</summary>
    public string Adapters => string.Join(", ", _tensor.Adapters);

    /// <summary>
    /// A factor on what adapters add: 1 merges as trained, 0 leaves the base, and any other finite number is allowed. Null where nothing is
    /// changed. Only sums can be weighted: Save-MergedModel refuses another value than 1 on a replacement and the like.
    /// </summary>
    public double? Strength
    {
        get => _strength;
        set => _strength = _tensor.IsChanged ? value ?? 1 : null;
    }

    /// <summary>The elements.</summary>
    public long Parameters => Shape.Count;

    /// <summary>The file that its source lies in.</summary>
    public string SourceShard => _tensor.SourceShard;

    internal MergePlan Plan { get; }

    internal int Ordinal => _tensor.Ordinal;

    /// <inheritdoc/>
    public override string ToString() => Name;
}
