namespace UnslothMerge.Formats.Quantized;

/// <summary>gpt-oss's MXFP4 experts. Source: openai/gpt-oss, transformers' mxfp4 integration.</summary>
internal sealed class MxFp4Format() : QuantizedFormat("mxfp4")
{
    protected override IReadOnlyList<string> Companions => ["_scales"];

    protected override FoundTensor? TryRead(StoredTensor tensor, Checkpoint checkpoint, JsonObject quantization, TensorType type)
    {
        if (Stem(tensor.Name, "_blocks") is not { } name || tensor.Type != TensorType.U8)
        {
            return null;
        }

        var scales = Require(checkpoint, name + "_scales", name);
        return tensor.Shape is [_, _, _, 16] && tensor.Length > 0
            && scales.Shape.SequenceEqual(tensor.Shape.Take(3)) && scales.Type == TensorType.U8
            ? new FoundTensor(name, new MxFp4Source(tensor, scales, type))
            : throw Damaged(
                name, $"'{tensor.Name}' {tensor.Shape.Text()} and '{scales.Name}' {scales.Shape.Text()} do not belong together");
    }
}
