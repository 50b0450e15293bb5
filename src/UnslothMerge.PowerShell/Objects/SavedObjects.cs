namespace UnslothMerge.PowerShell;

/// <summary>A saved shard.</summary>
public sealed class SavedModelShard
{
    internal SavedModelShard(Saving.SavedShard shard, MergePlan merge, TimeSpan whole)
    {
        Sources = SourcesOf(merge);
        Path = shard.Path;
        Bytes = shard.Bytes;
        ClonedBytes = shard.Cloned;
        Tensors = [.. shard.Tensors.Select(t => new SavedTensor(Saving.TensorRecord.Of(t), Name))];
        Seconds = shard.Time?.TotalSeconds;
        WholeTime = whole;
    }

    internal SavedModelShard(Saving.ShardRecord shard, string directory, TimeSpan whole)
    {
        Path = System.IO.Path.Combine(directory, shard.Name);
        Bytes = shard.Bytes;
        ClonedBytes = shard.Cloned;
        Tensors = [.. shard.Tensors.Select(t => new SavedTensor(t, Name))];
        WholeTime = whole;
    }

    internal SavedModelShard(string path, IEnumerable<Saving.TensorRecord> tensors, MergePlan merge)
    {
        Sources = SourcesOf(merge);
        Path = path;
        Bytes = new FileInfo(path).Length;
        Tensors = [.. tensors.Select(t => new SavedTensor(t, Name))];
    }

    /// <summary>The file's name.</summary>
    public string Name => System.IO.Path.GetFileName(Path);

    /// <summary>The full path.</summary>
    public string Path { get; }

    /// <summary>The length in bytes.</summary>
    public long Bytes { get; }

    /// <summary>The bytes whose blocks on the disk are shared with the base: they were not written.</summary>
    public long ClonedBytes { get; }

    /// <summary>The bytes that were written.</summary>
    public long WrittenBytes => Bytes - ClonedBytes;

    /// <summary>The number of tensors that an adapter changed.</summary>
    public int Changed => Tensors.Count(t => t.Action is "Merge" or "Replace" or "Add");

    /// <summary>The seconds from its first piece to its last; shards overlap. Null if an interrupted save had finished it.</summary>
    public double? Seconds { get; }

    /// <summary>Its tensors.</summary>
    public SavedTensor[] Tensors { get; }

    /// <summary>The duration of the save, all shards together.</summary>
    internal TimeSpan WholeTime { get; }

    /// <summary>The directories of base and adapters; empty if the shard was saved by others.</summary>
    internal IReadOnlyList<string> Sources { get; } = [];

    public override string ToString() => Path;

    private static List<string> SourcesOf(MergePlan merge) => [merge.Base.Path, .. merge.Steps.Select(s => s.Adapter.Path)];
}

/// <summary>A saved tensor.</summary>
public sealed class SavedTensor
{
    private readonly Saving.TensorRecord _tensor;

    internal SavedTensor(Saving.TensorRecord tensor, string shard) => (_tensor, Shard) = (tensor, shard);

    /// <summary>The name.</summary>
    public string Name => _tensor.Name;

    /// <summary>What happened to it: Copy, Decode, Merge, Replace or Add.</summary>
    public string Action => _tensor.Action;

    /// <summary>The shape.</summary>
    public TensorShape Shape => field ??= new TensorShape(_tensor.Shape);

    /// <summary>The dimensions of the shape as numbers.</summary>
    public long[] Dimensions => [.. Shape.Dimensions];

    /// <summary>The dtype in the output; of a quantized tensor, that of its codes.</summary>
    public string DType => _tensor.Type;

    /// <summary>The format in the output: the dtype, or a quantized format such as NF4.</summary>
    public string Format => _tensor.Format;

    /// <summary>The length in bytes.</summary>
    public long Bytes => _tensor.Bytes;

    /// <summary>‖Δ‖ / ‖W‖, Frobenius norms; null without deltas.</summary>
    public double? RelativeChange => _tensor.Figures.RelativeChange;

    /// <summary>‖Q(W) − W‖ / ‖W‖, Frobenius norms; null if the output is not quantized.</summary>
    public double? RelativeError => _tensor.Figures.RelativeError;

    /// <summary>The share of the delta that quantizing left: ⟨Q(W+Δ) − Q(W), Δ⟩ / ‖Δ‖². Null if the output is not quantized, or the tensor
    /// is not one of the sample that is measured in a large model.</summary>
    public double? DeltaSurvival => Survival is var (kept, whole) && whole > 0 ? kept / whole : null;

    internal (double Kept, double Whole)? Survival => _tensor.Figures.Survival;

    /// <summary>The file that holds it.</summary>
    public string Shard { get; }

    public override string ToString() => Name;
}
