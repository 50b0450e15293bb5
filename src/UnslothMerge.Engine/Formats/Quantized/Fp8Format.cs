namespace UnslothMerge.Formats.Quantized;

/// <summary>FP8 with one scale per tensor, row, column or block: <c>P.weight</c> F8 and <c>P.weight_scale_inv</c>, a multiplier, which has
/// other names too. DeepSeek-V4's experts beside it are FP4, two codes in an I8. Sources: DeepSeek-V3 and V4; transformers 5.24,
/// finegrained FP8, <c>fbgemm_fp8</c>, <c>mxfp8</c>.</summary>
internal sealed class Fp8Format() : QuantizedFormat("fp8", "fbgemm_fp8", "mxfp8")
{
    private static readonly string[] ScaleNames = [".weight_scale_inv", ".weight_scale", ".scale", ".qscale_weight"];
    private static readonly string[] BareScaleNames = ["_scale_inv", "_scale"];

    protected override IReadOnlyList<string> Companions => ["_scale_inv", ".weight_scale", ".qscale_weight"];

    protected override FoundTensor? TryRead(StoredTensor tensor, Checkpoint checkpoint, JsonObject quantization, TensorType type)
    {
        var isFp4 = tensor.Type == TensorType.I8;
        if (!(isFp4 || tensor.Type is TensorType.F8_E4M3 or TensorType.F8_E5M2) || tensor.Shape.Count < 2)
        {
            return null;
        }

        var module = Stem(tensor.Name, ".weight");
        var names = module is null ? BareScaleNames.Select(n => tensor.Name + n) : ScaleNames.Select(n => module + n);
        var scale = names.Select(checkpoint.Find).FirstOrDefault(s => s is not null) ?? throw Damaged(
            tensor.Name, $"its scale '{names.First()}' is missing");
        var ignored = module is null ? Others(checkpoint, $"{tensor.Name}_input_scale") : Activations(checkpoint, module);
        if (isFp4)
        {
            return new FoundTensor(tensor.Name, new ScaledSource(ScaledWeight.Fp4(tensor, scale, 32) with { Ignored = ignored }, type));
        }

        var block = (Block(quantization, "weight_block_size") ?? Block(quantization, "group_size")) is { } stated ? stated
            : quantization.String("quant_method") == "mxfp8" ? (1, 32)
            : ((long, int)?)null;
        return new FoundTensor(tensor.Name, new ScaledSource(
            new ScaledWeight("FP8", tensor, tensor.Shape, Codes.Of(tensor.Type)!, tensor.Shape[^1],
                ScaleGrid.Of(tensor.Name, scale, tensor.Shape, block))
            {
                Book = CodeBook.Of(tensor.Type),
                HasPowersOfTwo = quantization.String("scale_fmt") == "ue8m0",
                Ignored = ignored,
            },
            type));
    }
}
