namespace UnslothMerge.Planning;

/// <summary>Every tensor in the base's format. If <see cref="Required"/> is given (<c>MXFP4</c>), some tensors of the base must have
/// it.</summary>
internal sealed record BaseFormatRequest(string? Required = null) : OutputRequest
{
    internal override OutputSelection Choose(MergePlan merge, TensorType? type) =>
        Required is null || merge.Tensors.Any(t => t.Source.Format == Required)
            ? new BaseFormatSelection(merge)
            : throw new MergeException(
                MergeError.InvalidOption,
                $"The base '{merge.Base.Path}' is not a model in {Required}: {Formats(merge)}. Only such a base can be written as "
                + "one.",
                "Method",
                "Use merged to keep the base's own format, merged_16bit for 16 bits, or merged_fp8 or merged_4bit to quantize.");

    private static string Formats(MergePlan merge) =>
        string.Join(
            ", ",
            merge.Tensors.GroupBy(t => t.Source.Format).OrderByDescending(g => g.Count())
                .Select(g => $"{g.Count()} of its tensors are {g.Key}"));
}

/// <summary>
/// Keeps the base's formats tensor by tensor: what nothing changes is copied with all its companions, what is changed is quantized again
/// with the base's own parameters, and the config stays.
/// </summary>
internal sealed class BaseFormatSelection(MergePlan merge) : OutputSelection
{
    // What an adapter replaces was something in the base too.
    private readonly Lazy<IReadOnlyDictionary<string, TensorSource>> _base =
        new(() => StoredFormats.Read(merge.Base).ToDictionary(t => t.Name, t => t.Source, StringComparer.Ordinal));

    public override bool KeepsTypes => true;

    public override TensorSink? For(LogicalTensor tensor, TensorType type)
    {
        var source = tensor.Action == TensorAction.Replace && merge.Base.Config.Quantization is not null
            ? _base.Value.GetValueOrDefault(tensor.Name)
            : tensor.Source;
        return source is null or { Verbatim: not null } ? null
            : !tensor.IsChanged ? new CopySink(tensor.Name, source)
            : source.Shape.SequenceEqual(tensor.Shape) && source.WrittenBack(tensor.Name) is { } sink ? sink
            : throw new MergeException(
                MergeError.UnsupportedFormat,
                $"'{tensor.Name}' {tensor.Shape.Text()} cannot be written back as {source.Format} {source.Shape.Text()}, which it is in "
                + "the base.",
                tensor.Name,
                "Use merged_16bit, merged_fp8 or merged_4bit.");
    }

    public override ModelConfig Configure(ModelConfig config) => config;
}
