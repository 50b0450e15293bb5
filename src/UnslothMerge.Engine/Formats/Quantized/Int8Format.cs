namespace UnslothMerge.Formats.Quantized;

/// <summary>LLM.int8: <c>P.weight</c> I8 [out, in] and <c>P.SCB</c> F32 [out], the largest magnitude of each row; W = q · SCB · (1/127).
/// Source: bitsandbytes 0.50.</summary>
internal sealed class Int8Format() : QuantizedFormat("bitsandbytes")
{
    protected override IReadOnlyList<string> Companions =>
        [".SCB", ".weight_format", ".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map"];

    protected override FoundTensor? TryRead(StoredTensor tensor, Checkpoint checkpoint, JsonObject quantization, TensorType type)
    {
        if (tensor.Type != TensorType.I8 || tensor.Shape.Count < 2 || Stem(tensor.Name, ".weight") is not { } module)
        {
            return null;
        }

        var rowMaxima = Require(checkpoint, $"{module}.SCB", tensor.Name);
        var grid = ScaleGrid.Of(tensor.Name, rowMaxima, tensor.Shape, null);
        return new FoundTensor(tensor.Name, new ScaledSource(
            new ScaledWeight(
                "INT8", tensor, tensor.Shape, Codes.Of(tensor.Type)!, tensor.Shape[^1],
                grid) { Book = CodeBook.Integers(-127, 127), Factor = 1f / 127, Ignored = Others(checkpoint, $"{module}.weight_format") },
            type));
    }
}
