namespace UnslothMerge.Formats.BitsAndBytes;

/// <summary>The JSON that bitsandbytes stores beside a 4-bit weight, under <c>P.weight.quant_state.bitsandbytes__nf4</c> (or <c>__fp4</c>).
/// Type and shape are those before it was quantized; the nested block size is null without double quantization; the offset is added to each
/// decoded absmax. Source: bitsandbytes 0.50, <c>QuantState.as_dict(packed=True)</c>.</summary>
internal sealed record QuantState(
    string QuantType, int BlockSize, TensorType Type, IReadOnlyList<long> Shape, int? NestedBlockSize, float NestedOffset)
{
    /// <summary>Reads the stored JSON.</summary>
    public static QuantState Parse(byte[] json, string name)
    {
        try
        {
            var node = JsonFile.Parse(Encoding.UTF8.GetString(json))!.AsObject();
            var nested = node.ContainsKey("nested_blocksize");
            return new QuantState(
                node["quant_type"]!.GetValue<string>(),
                node["blocksize"]!.GetValue<int>(),
                TensorTypes.FromTorchName(node["dtype"]!.GetValue<string>()) ?? throw new FormatException(
                    $"the dtype {node["dtype"]} is not known"),
                [.. node["shape"]!.AsArray().Select(d => d!.GetValue<long>())],
                nested ? node["nested_blocksize"]!.GetValue<int>() : null,
                nested ? node["nested_offset"]!.GetValue<float>() : 0);
        }
        catch (Exception e) when (e is JsonException or FormatException or InvalidOperationException or NullReferenceException)
        {
            throw new MergeException(
                MergeError.InvalidModel, $"The quantization state '{name}' cannot be read: {e.Message}", name,
                "Quantize the model again, or use its 16-bit original.", e);
        }
    }
}
