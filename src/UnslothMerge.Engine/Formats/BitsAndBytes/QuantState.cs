namespace UnslothMerge.Formats.BitsAndBytes;

/// <summary>
/// The JSON that bitsandbytes stores beside a 4-bit weight, under <c>P.weight.quant_state.bitsandbytes__nf4</c> (or <c>__fp4</c>).
/// Source: bitsandbytes 0.50, <c>QuantState.as_dict(packed=True)</c>.
/// </summary>
/// <param name="QuantType"><c>nf4</c> or <c>fp4</c>.</param>
/// <param name="BlockSize">Elements that share one absmax.</param>
/// <param name="Type">The dtype of the weight before it was quantized, to which it decodes again.</param>
/// <param name="Shape">The shape of the weight before it was packed.</param>
/// <param name="NestedBlockSize">Absmax values that share one nested absmax; null without double quantization.</param>
/// <param name="NestedOffset">What is added to each decoded absmax.</param>
internal sealed record QuantState(
    string QuantType, int BlockSize, TensorType Type, IReadOnlyList<long> Shape, int? NestedBlockSize, float NestedOffset)
{
    /// <summary>Reads the stored JSON.</summary>
    /// <param name="json">Its UTF-8 bytes.</param>
    /// <param name="name">The tensor that holds it, for errors.</param>
    public static QuantState Parse(byte[] json, string name)
    {
        try
        {
            var node = JsonNode.Parse(json)!.AsObject();
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
