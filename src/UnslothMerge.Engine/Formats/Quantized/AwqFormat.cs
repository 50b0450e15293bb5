namespace UnslothMerge.Formats.Quantized;

/// <summary>AWQ in the GEMM layout, 4 bits. Source: AutoAWQ.</summary>
internal sealed class AwqFormat() : QuantizedFormat("awq")
{
    protected override IReadOnlyList<string> Companions => [".qzeros", ".scales"];

    protected override FoundTensor? TryRead(StoredTensor tensor, Checkpoint checkpoint, JsonObject quantization, TensorType type)
    {
        if (Stem(tensor.Name, ".qweight") is not { } module)
        {
            return null;
        }

        var name = module + ".weight";
        var codes = Matrix(tensor, name, TensorType.I32);
        var zeros = Matrix(Require(checkpoint, module + ".qzeros", name), name, TensorType.I32);
        var scales = RequireScales(checkpoint, module + ".scales", name);
        var version = quantization.String("version") ?? "gemm";
        if (!version.Equals("gemm", StringComparison.OrdinalIgnoreCase) || Whole(quantization, "bits") is not (4 or null))
        {
            throw new MergeException(
                MergeError.UnsupportedFormat,
                $"'{name}' is in the AWQ layout '{version}' with {quantization.Number("bits")} bits; only GEMM with 4 bits can be read.",
                name, "Use the 16-bit original of this model as the base.");
        }

        var groupSize = Whole(quantization, "group_size") ?? (int)codes.Shape[0];
        return codes.Shape[1] * 8 == scales.Shape[1] && zeros.Shape.SequenceEqual([scales.Shape[0], codes.Shape[1]])
            && scales.Shape[0] == (codes.Shape[0] + groupSize - 1L) / groupSize
            ? new FoundTensor(
                name,
                new PanelSource(
                    new PanelWeight("AWQ", 4, codes, zeros, scales, null, groupSize) { PackedAlongInputs = false }, scales.Type))
            : throw Damaged(
                name,
                $"codes {codes.Shape.Text()}, zero points {zeros.Shape.Text()} and scales {scales.Shape.Text()} do not belong together "
                + $"in groups of {groupSize}");
    }
}
