using UnslothMerge.Formats.Quantized;

namespace UnslothMerge.Planning;

/// <summary>The caller wants linear layers in a scheme of compressed-tensors; the method's name is for messages.</summary>
internal sealed record ExportRequest(string Method, CompressedScheme Scheme) : OutputRequest
{
    internal override OutputSelection Choose(MergePlan merge, TensorType? type)
    {
        if (type == TensorType.F32)
        {
            throw new MergeException(
                MergeError.InvalidOption, $"A model in {Scheme.Name} has 16-bit scales and activations, not float32.", "DType",
                "Use bfloat16 or float16.");
        }

        // Interleaved, [in, out] and with biases.
        if (merge.Tensors.FirstOrDefault(t => t.Name.EndsWith("experts.gate_up_proj_bias", StringComparison.Ordinal)) is { } bias)
        {
            throw new MergeException(
                MergeError.UnsupportedFormat,
                $"The experts of {merge.Config.ModelType ?? "gpt_oss"} cannot be written in {Scheme.Name}: their rows are interleaved and "
                + "have biases, and no reader is known for such a model.",
                bias.Name,
                "Use merged_mxfp4 for an MXFP4 base, or merged_16bit.");
        }

        return new ExportSelection(merge, this);
    }
}

/// <summary>
/// Linear layers in a scheme of compressed-tensors, experts one by one, as vLLM and transformers load them. Sources: llm-compressor 0.14,
/// <c>model_free_ptq</c>; compressed-tensors 0.19.
/// </summary>
internal sealed class ExportSelection : OutputSelection
{
    private static readonly int[] GroupSizes = [128, 64, 32, 16];

    private readonly ExportRequest _request;
    private readonly ModelConfig _config;

    /// <summary>Decides for one merge.</summary>
    public ExportSelection(MergePlan merge, ExportRequest request)
    {
        (_request, _config) = (request, merge.Config);
        var scheme = request.Scheme;
        Layers = new LinearLayers(merge, request, new ReaderRules(
            Conv1D: false, Experts: true, scheme.BlockRows > 1 ? scheme.BlockRows : null, _ => null) { Cut = WhyNotCut });
    }

    public override string Quantized => _request.Scheme.Name;

    public override LinearLayers Layers { get; }

    // The largest that cuts some of the matrices which the scheme's own does not.
    public override string Advice =>
        _request.Scheme.Format == CompressedScheme.W4A16.Format
            && Layers.All.Where(l => l.Kept is not null && l.Kept == WhyNotCut(l)).Select(ColumnsOf).ToList() is var columns
            && Array.Find(GroupSizes, g => columns.Exists(c => c % g == 0)) is > 0 and var size
            ? $"Use -GroupSize {size}, or the method merged_16bit."
            : base.Advice;

    public override TensorSink? For(LogicalTensor tensor, TensorType type)
    {
        if (Layers.Of(tensor) is not { } layer || (layer.Kept is not null && layer.Fused is null))
        {
            return null;
        }

        if (layer.Fused is not { } fused)
        {
            return Sink(layer.Module, tensor.Shape[0], checked((int)tensor.Shape[1]), FusedSets.SetOf(layer.Module));
        }

        var parts = new PartsSink([.. fused.Modules.Select(m => layer.Kept is null
            ? Sink(m, fused.Rows, fused.Columns, tensor.Name)
            : new PlainSink($"{m}.weight", type, [fused.Rows, fused.Columns]))], fused.Rows);
        return fused.IsTransposed ? new TransposedSink(parts, fused.Columns) : parts;

        TensorSink Sink(string module, long rows, int columns, string survey)
        {
            var half = type.IsHalfWidthFloat() ? type : _config.DType is { } own && own.IsHalfWidthFloat() ? own : TensorType.BF16;
            var values = !tensor.IsChanged && tensor.Source.PlainType == half ? half : TensorType.F32;
            return new CompressedSink(new CompressedWeight(module, rows, columns, _request.Scheme, values, half)
            {
                Set = FusedSets.SetOf(module),
                SurveySet = survey,
            });
        }
    }

    public override ModelConfig Configure(ModelConfig config) => config.WithQuantization(_request.Scheme.ToConfig(Layers.Ignored));

    private string? WhyNotCut(Layer layer)
    {
        return layer.Fused is null && !layer.Tensor.Name.EndsWith(".weight", StringComparison.Ordinal) ? "that are no weight of a module"
            : _request.Scheme.Group is { } group && ColumnsOf(layer) % group != 0 ? $"whose columns are no whole groups of {group}"
            : null;
    }

    private static long ColumnsOf(Layer layer) => layer.Fused?.Columns ?? layer.Tensor.Shape[^1];
}
