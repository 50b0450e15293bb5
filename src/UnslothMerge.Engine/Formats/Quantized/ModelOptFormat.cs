namespace UnslothMerge.Formats.Quantized;

/// <summary>NVIDIA ModelOpt: <c>P.weight</c> with <c>P.weight_scale</c>. Dtypes tell what it holds: F8 or I8, a code for each value; U8
/// with scales in E4M3 or in powers of two, FP4; U8 with scales in F32, two rows of 4-bit integers in one (AWQ). Source: nvidia-modelopt
/// 0.47, <c>export_hf_checkpoint</c>.</summary>
internal sealed class ModelOptFormat() : QuantizedFormat("modelopt")
{
    // The default comes first.
    private static readonly int[] BlockSizes = [128, 16, 32, 64, 256, 512];

    protected override IReadOnlyList<string> Companions => ["weight_scale", "weight_scale_2", ".pre_quant_scale"];

    protected override FoundTensor? TryRead(StoredTensor tensor, Checkpoint checkpoint, JsonObject quantization, TensorType type)
    {
        // A stack of experts is a parameter without a module of its own: 'experts.gate_up_proj' and 'experts.gate_up_proj_weight_scale'.
        var stem = Stem(tensor.Name, "weight") is { } module ? module : $"{tensor.Name}_";
        if (tensor.Shape.Count < 2 || checkpoint.Find($"{stem}weight_scale") is not { } scale)
        {
            return null;
        }

        // Without it the scales of NVFP4, which are E4M3, are some thousand times too large.
        var second = tensor.Type == TensorType.U8 && scale.Type == TensorType.F8_E4M3
            ? Require(checkpoint, $"{stem}weight_scale_2", tensor.Name)
            : checkpoint.Find($"{stem}weight_scale_2");
        var weight = tensor.Type != TensorType.U8 ? Codewise(tensor, scale)
            : scale.Type.IsPlainFloat() ? RowPairs(tensor, scale)
            : ScaledWeight.Fp4(tensor, scale, scale.Type == TensorType.F8_E4M3 ? 16 : 32) with
            {
                Global = second is null ? null
                    : second.Shape.Count() == 1 ? new GlobalScale(second, Divides: false)
                    : throw Damaged(tensor.Name, $"'{second.Name}' {second.Shape.Text()} is not one value"),
            };
        if (weight is null)
        {
            return null;
        }

        // AWQ's second scale belongs to the activations.
        var others = stem.EndsWith('_') ? Others(checkpoint, $"{stem}input_scale") : Activations(checkpoint, stem[..^1]);
        return new FoundTensor(tensor.Name, new ScaledSource(
            weight with
            {
                ColumnScale = checkpoint.Find($"{stem}pre_quant_scale"),
                Ignored = weight.Global is null && second is not null ? [.. others, second] : others,
            },
            type));
    }

    private static ScaledWeight? Codewise(StoredTensor tensor, StoredTensor scale) =>
        Codes.Of(tensor.Type) is not { } decoder ? null
        : new ScaledWeight(
            tensor.Type == TensorType.I8 ? "INT8" : "FP8", tensor, tensor.Shape, decoder, tensor.Shape[^1],
            ScaleGrid.Of(tensor.Name, scale, tensor.Shape, Block(tensor.Shape, scale)))
        {
            Book = CodeBook.Of(tensor.Type),
        };

    private static ScaledWeight RowPairs(StoredTensor tensor, StoredTensor scale)
    {
        long[] shape = [.. tensor.Shape.SkipLast(2), tensor.Shape[^2] * 2, tensor.Shape[^1]];
        return new ScaledWeight(
            "INT4", tensor, shape, Codes.Of(TensorType.I8)!, tensor.Shape[^1], ScaleGrid.Of(tensor.Name, scale, shape, null))
        {
            PairsRows = true,
            Book = CodeBook.Integers(-8, 7),
            Layout = CodeLayout.RowPairs,
        };
    }

    // [rows / block, 1, columns / block, 1]: the block is in no config.
    private static (long, int)? Block(IReadOnlyList<long> shape, StoredTensor scale) => scale.Shape switch
    {
        [> 0 and var rows, 1, > 0 and var columns, 1] => BlockSizes.Append((int)(shape[^1] / columns)).Append((int)(shape[^2] / rows))
            .Where(b => b > 0 && (shape[^2] + b - 1) / b == rows && (shape[^1] + b - 1) / b == columns)
            .Select(b => ((long, int)?)(b, b)).FirstOrDefault(),
        _ when scale.Type is TensorType.U8 or TensorType.F8_E8M0 => (1, 32),
        _ => null,
    };
}
