namespace UnslothMerge.Planning;

/// <summary>A tensor, with the caller's strength in its terms, and how it is stored and cut. <see cref="Verbatim"/>: the stored tensors
/// whose bytes are copied, in the order of the outputs; null if there is something to compute.</summary>
internal sealed record WriteTensor(LogicalTensor Tensor, TensorSink Sink, IReadOnlyList<StoredTensor>? Verbatim, Tiling Tiling)
{
    /// <summary>The bytes of all its outputs.</summary>
    public long Bytes => Sink.Outputs.Sum(o => o.Bytes) + Sink.Deferred.Sum(d => d.MaxBytes);

    /// <summary>The stored tensors that it is made of.</summary>
    public IEnumerable<StoredTensor> Inputs => Tensor.Source.Inputs.Concat(Tensor.Terms.SelectMany(t => t.Term.Inputs));

    /// <summary>One of so many pieces is measured for what quantizing leaves of the deltas.</summary>
    public int MeasuredShare { get; init; } = 1;

    /// <summary>True if a piece is measured; those of all tensors spread over the model.</summary>
    public bool MeasuresPiece(int piece) => Tiling.MeasuredRows > 0 && (piece + Tensor.Ordinal) % MeasuredShare == 0;
}

/// <summary>A shard to be written: its file name, its header and offsets, its tensors in the order of their data.</summary>
internal sealed record WriteShard(string Name, ShardLayout Layout, ImmutableArray<WriteTensor> Tensors)
{
    /// <summary>The file of the base that has the same header, so that the shard may begin as a clone of it; null if there is
    /// none.</summary>
    public StoredFile? Origin { get; init; }

    /// <summary>True if the origin has a tensor's bytes where the shard has them.</summary>
    public bool IsInOrigin(WriteTensor tensor) => Origin is { } origin && tensor.Verbatim is { } stored
        && tensor.Sink.Outputs.Zip(stored).All(p =>
            p.Second.File == origin && p.Second.Strides is null && p.Second.Offset == Layout.OffsetOf(p.First.Name));

    /// <summary>The ranges that it has in common with its origin: the header, and tensors that stay as they are.</summary>
    public IEnumerable<(long Start, long Length)> OriginRanges => Origin is null ? []
        : Tensors.Where(IsInOrigin).SelectMany(t => t.Sink.Outputs).Select(o => (Layout.OffsetOf(o.Name), o.Bytes))
            .Prepend((0, Layout.Header.Length));

    /// <summary>The bytes that it has in common with its origin.</summary>
    public long OriginBytes => OriginRanges.Sum(r => r.Length);
}

/// <summary>How the output is stored: the dtype of all floating-point tensors (null keeps them, see <see cref="WritePlan.Create"/>) and the
/// largest shard; null keeps the base's shards.</summary>
internal sealed record WriteOptions(TensorType? Type, long? MaxShardBytes)
{
    /// <summary>How weights are quantized; null for a 16-bit (or 32-bit) output.</summary>
    public OutputRequest? Quantization { get; init; }

    /// <summary>The variant in the names of the files: <c>fp16</c> for <c>model.fp16.safetensors</c>; null for none.</summary>
    public string? Variant { get; init; }
}

/// <summary>How the merged model is stored: formats, shards, offsets and file sizes, all known before a byte is written.</summary>
internal sealed class WritePlan
{
    // About so many elements of a model, all of a small one.
    private const long MeasuredElements = 16_000_000;

    private static readonly Dictionary<string, string> Metadata = new() { ["format"] = "pt" };

    private WritePlan(MergePlan merge, ImmutableArray<WriteShard> shards, ModelConfig config, string? variant, LinearLayers? layers)
    {
        Layers = layers;
        Merge = merge;
        Shards = shards;
        Config = config;
        Variant = variant;
    }

    /// <summary>What is merged.</summary>
    public MergePlan Merge { get; }

    /// <summary>The files of weights.</summary>
    public ImmutableArray<WriteShard> Shards { get; }

    /// <summary>The content of config.json.</summary>
    public ModelConfig Config { get; }

    /// <summary>The variant in the names of the files; null for none.</summary>
    public string? Variant { get; }

    /// <summary>Which matrices are quantized, and why others are not; null if none is that is not in the base.</summary>
    public LinearLayers? Layers { get; }

    /// <summary>All tensors, shard by shard.</summary>
    public IEnumerable<WriteTensor> Tensors => Shards.SelectMany(s => s.Tensors);

    /// <summary>The bytes of all shards.</summary>
    public long Bytes => Shards.Sum(s => s.Layout.Length);

    /// <summary>Plans a save as 16-bit (or 32-bit) tensors, or quantized. Without a dtype, a model that is a 16-bit one keeps each tensor's
    /// dtype, so that its few F32 tensors stay F32, and a model that is all F32 becomes BF16. The tensors are in the plan's order, with
    /// their strengths applied.</summary>
    public static WritePlan Create(MergePlan merge, IReadOnlyList<LogicalTensor> tensors, WriteOptions options)
    {
        var has16 = merge.Tensors.Any(t => t.Type.IsHalfWidthFloat());
        var all32 = !has16 && merge.Tensors.Any(t => t.Type.IsPlainFloat());
        var narrow = options.Type ?? (all32 ? TensorType.BF16 : null);
        var selection = options.Quantization?.Choose(merge, narrow) ?? new PlainSelection();
        var type = selection.KeepsTypes ? options.Type : narrow;
        var tilings = new HashSet<Tiling>();
        var written = tensors.Where(t => selection.KeepsTypes || !t.IsCacheScale).Select(t => Store(t, type, selection, tilings)).ToList();
        if (selection.Quantized is { } format && written.TrueForAll(t => !t.Sink.IsQuantized)
            && merge.Tensors.All(t => !Store(t, type, selection, tilings).Sink.IsQuantized))
        {
            throw new MergeException(
                MergeError.InvalidOption,
                $"None of the {merge.Tensors.Count} tensors would be {format}: the base '{merge.Base.Path}' has " +
                    (selection.Layers!.All.Count == 0 ? "no linear layers." : string.Join("; ", selection.Layers.Reasons) + "."),
                "Method",
                selection.Advice);
        }

        var measured = (int)(written.Sum(t => t.Tensor.View.Count / t.Tiling.Rows * t.Tiling.MeasuredRows) / MeasuredElements) + 1;
        written = measured == 1 ? written : written.ConvertAll(t => t with { MeasuredShare = measured });
        RequireDistinctNames(written);
        var shards = Split(written, merge.Base.Checkpoint.Tensors, options);

        var config = type is { } t && t != merge.Config.DType ? merge.Config.WithDType(t) : merge.Config;
        Garbage.Release(written.Count);
        return new WritePlan(merge, shards, selection.Configure(config), options.Variant, selection.Layers);
    }

    /// <summary>The same plan, cut into other pieces.</summary>
    public WritePlan WithPieces(int pieceBytes)
    {
        var shards = Shards.Select(s =>
            s with
            {
                Tensors = [.. s.Tensors.Select(t =>
                    t.Tiling == Tiling.None ? t : t with { Tiling = Tiling.For(t.Tensor, t.Sink, pieceBytes) })],
            });
        return new WritePlan(Merge, [.. shards], Config, Variant, Layers);
    }

    /// <summary>A plan of some of the shards.</summary>
    public WritePlan Of(ImmutableArray<WriteShard> shards) => new(Merge, shards, Config, Variant, Layers);

    // Tensors that are cut alike share their tiling.
    private static WriteTensor Store(LogicalTensor tensor, TensorType? type, OutputSelection selection, HashSet<Tiling> tilings)
    {
        if (tensor.Terms.Length > 0 && !tensor.Type.IsPlainFloat())
        {
            throw new MergeException(
                MergeError.UnsupportedFormat,
                $"'{tensor.Name}' is {tensor.Type}, and an adapter changes it: such numbers are not added to.",
                tensor.Name, "Use the 16-bit original of this model as the base.");
        }

        var copied = tensor.Action == TensorAction.Copy ? tensor.Source.Verbatim : null;
        var output = !tensor.Type.IsPlainFloat() ? tensor.Type
            : type ?? (tensor.Type == TensorType.F64 && copied is null ? TensorType.F32 : tensor.Type);
        var sink = selection.For(tensor, output) ?? new PlainSink(tensor.Name, output, tensor.Shape);
        IReadOnlyList<StoredTensor>? verbatim = sink switch
        {
            CopySink copy => copy.Copied,
            PlainSink when output == tensor.Source.Type && copied is not null => [copied],
            PlainSink when !tensor.Type.IsPlainFloat() => throw new MergeException(
                MergeError.UnsupportedFormat, $"'{tensor.Name}' is {tensor.Type}: such numbers are copied as they are, or not written.",
                tensor.Name, "Use the 16-bit original of this model as the base."),
            _ => null,
        };
        var tiling = verbatim is null ? Tiling.For(tensor, sink) : Tiling.None;
        if (!tilings.TryGetValue(tiling, out var shared))
        {
            tilings.Add(shared = tiling);
        }

        return new WriteTensor(tensor, sink, verbatim, shared);
    }

    // What goes with codes (scales, a quantization state) has names that the base may have given to other tensors.
    private static void RequireDistinctNames(List<WriteTensor> tensors)
    {
        var companions = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var tensor in tensors)
        {
            foreach (var name in tensor.Sink.Outputs.Select(o => o.Name).Concat(tensor.Sink.Deferred.Select(d => d.Name))
                .Where(n => n != tensor.Tensor.Name))
            {
                Require(companions.TryAdd(name, tensor.Tensor.Name), name, tensor.Tensor.Name);
            }
        }

        foreach (var tensor in companions.Count == 0 ? [] : tensors.Where(t => t.Sink.Outputs.Any(o => o.Name == t.Tensor.Name)))
        {
            Require(!companions.TryGetValue(tensor.Tensor.Name, out var owner), tensor.Tensor.Name, owner);
        }

        static void Require(bool isFree, string name, string? owner)
        {
            if (!isFree)
            {
                throw new MergeException(
                    MergeError.InvalidModel, $"'{name}' would be written twice: for '{owner}', which it goes with, and for another tensor "
                    + "of the base.", name, "Use merged_16bit, or a base without that tensor.");
            }
        }
    }

    private static ImmutableArray<WriteShard> Split(
        List<WriteTensor> tensors, IReadOnlyList<StoredTensor> stored, WriteOptions options)
    {
        var split = options.MaxShardBytes is { } limit
            ? [.. ShardSplitter.Split([.. tensors.Select(t => t.Bytes)], limit).Select(s => ((IReadOnlyList<StoredTensor>)[], s))]
            : BaseShards.Split(tensors, stored);
        return [.. split.Select((s, i) =>
            Shard(ShardSplitter.FileName(i, split.Count, options.Variant), s.Indices.Select(j => tensors[j]), s.Stored))];
    }

    // A shard that holds what a file of the base holds keeps its header, however that was written.
    private static WriteShard Shard(string name, IEnumerable<WriteTensor> tensors, IReadOnlyList<StoredTensor> stored)
    {
        var all = tensors.ToList();
        var outputs = all.SelectMany(t => t.Sink.Outputs).ToList();
        var deferred = all.SelectMany(t => t.Sink.Deferred).ToList();
        var kept = stored.Count > 0 && deferred.Count == 0 ? BaseShards.LayoutOf(stored, outputs) : null;
        var layout = kept ?? new ShardLayout(outputs, Metadata, deferred);
        return new WriteShard(name, layout, [.. all.OrderBy(t => layout.OffsetOf(t.Sink.Outputs[0].Name))])
        {
            Origin = kept is null ? BaseShards.WithHeader(layout, all) : stored[0].File,
        };
    }
}
