using UnslothMerge.Models;

namespace UnslothMerge.Formats.Quantized;

/// <summary>FP8 with one scale per tensor, row, column or block: <c>P.weight</c> F8 and <c>P.weight_scale_inv</c>, a multiplier. Source:
/// DeepSeek-V3; transformers' finegrained FP8.</summary>
internal sealed class Fp8Format() : QuantizedFormat("fp8")
{
    private static readonly string[] ScaleNames = [".weight_scale_inv", ".weight_scale"];
    private static readonly string[] BareScaleNames = ["_scale_inv", "_scale"];

    protected override FoundTensor? TryRead(StoredTensor tensor, Checkpoint checkpoint, JsonObject quantization, TensorType type)
    {
        if (tensor.Type is not (TensorType.F8_E4M3 or TensorType.F8_E5M2) || tensor.Shape.Count < 2)
        {
            return null;
        }

        var module = Stem(tensor.Name, ".weight");
        var names = module is null ? BareScaleNames.Select(n => tensor.Name + n) : ScaleNames.Select(n => module + n);
        var scale = names.Select(checkpoint.Find).FirstOrDefault(s => s is not null) ?? throw Damaged(
            tensor.Name, $"its scale '{names.First()}' is missing");
        var block = quantization["weight_block_size"] is JsonArray { Count: 2 } b
            ? (b[0]!.GetValue<long>(), b[1]!.GetValue<int>())
            : ((long, int)?)null;
        var grid = ScaleGrid.Fit(scale, tensor.Shape, block) ?? throw Damaged(
            tensor.Name,
            $"'{scale.Name}' {scale.Shape.Text()} does not fit "
            + $"{tensor.Shape.Text()}{(block is null ? "" : $" in blocks of {block.Value.Item1}×{block.Value.Item2}")}");
        return new FoundTensor(tensor.Name, new ScaledSource(
            new ScaledWeight("FP8", tensor, tensor.Shape, Codes.Of(tensor.Type)!, tensor.Shape[^1], grid)
            {
                Book = CodeBook.Of(tensor.Type),
                HasPowersOfTwo = quantization.String("scale_fmt") == "ue8m0",
                Ignored = module is null ? Others(checkpoint, $"{tensor.Name}_input_scale") : Activations(checkpoint, module),
            },
            type));
    }
}
