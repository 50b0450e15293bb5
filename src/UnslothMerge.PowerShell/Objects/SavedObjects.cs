namespace UnslothMerge.PowerShell;

/// <summary>A file of weights that Save-MergedModel wrote.</summary>
public sealed class SavedModelShard
{
    internal SavedModelShard(Saving.SavedShard shard, TimeSpan time)
    {
        Path = shard.Path;
        Bytes = shard.Bytes;
        Tensors = [.. shard.Tensors.Select(t => new SavedTensor(t, Name))];
        Time = time;
    }

    /// <summary>The file's name.</summary>
    public string Name => System.IO.Path.GetFileName(Path);

    /// <summary>The full path.</summary>
    public string Path { get; }

    /// <summary>The length in bytes.</summary>
    public long Bytes { get; }

    /// <summary>How many of its tensors differ from the base's because of an adapter.</summary>
    public int Changed => Tensors.Count(t => t.Action is "Merge" or "Replace" or "Add");

    /// <summary>How long the whole save took.</summary>
    public TimeSpan Time { get; }

    /// <summary>Its tensors.</summary>
#pragma warning disable CA1819 // arrays are what PowerShell users index, filter and export
    public SavedTensor[] Tensors { get; }
#pragma warning restore CA1819

    /// <inheritdoc/>
    public override string ToString() => Path;
}

/// <summary>A tensor that Save-MergedModel wrote.</summary>
public sealed class SavedTensor
{
    internal SavedTensor(Execution.TensorResult result, string shard)
    {
        Name = result.Tensor.Name;
        Action = (result.Written.Verbatim is null ? result.Tensor.Action : Planning.TensorAction.Copy).ToString();
        Shape = new TensorShape(result.Tensor.Shape);
        DType = result.Type.ToString();
        Bytes = result.Bytes;
        RelativeChange = result.RelativeChange;
        RelativeError = result.RelativeError;
        Shard = shard;
    }

    /// <summary>The name.</summary>
    public string Name { get; }

    /// <summary>What happened to it: Copy, Decode, Merge, Replace or Add.</summary>
    public string Action { get; }

    /// <summary>The shape.</summary>
    public TensorShape Shape { get; }

    /// <summary>The dtype that it was written in.</summary>
    public string DType { get; }

    /// <summary>The length in bytes.</summary>
    public long Bytes { get; }

    /// <summary>‖Δ‖ / ‖W‖, Frobenius norms, where deltas were added; null elsewhere.</summary>
    public double? RelativeChange { get; }

    /// <summary>‖Q(W) − W‖ / ‖W‖, Frobenius norms, where the output is quantized; null elsewhere.</summary>
    public double? RelativeError { get; }

    /// <summary>The file that holds it.</summary>
    public string Shard { get; }

    /// <inheritdoc/>
    public override string ToString() => Name;
}
