using System.Text.Json.Nodes;
using UnslothMerge.Models;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Formats.Quantized;

/// <summary>GPTQ, versions 1 and 2, with or without act-order. Source: AutoGPTQ, GPTQModel.</summary>
internal sealed class GptqFormat() : QuantizedFormat("gptq")
{
    protected override FoundTensor? TryRead(StoredTensor tensor, Checkpoint checkpoint, JsonObject quantization, TensorType type)
    {
        if (Stem(tensor.Name, ".qweight") is not { } module)
        {
            return null;
        }

        var name = module + ".weight";
        var bits = (int?)quantization.Number("bits") ?? 4;
        var (zeros, scales) = (Need(checkpoint, module + ".qzeros", name), Need(checkpoint, module + ".scales", name));
        var inputs = tensor.Shape[0] * 32 / bits;
        var groupSize = (int?)quantization.Number("group_size") is { } size and > 0 ? size : (int)inputs;
        if (bits is not (2 or 3 or 4 or 8) || zeros.Shape[0] != scales.Shape[0] || tensor.Shape[1] != scales.Shape[1])
        {
            throw Damaged(name, $"{bits}-bit codes {tensor.Shape.Text()}, zero points {zeros.Shape.Text()} and scales {scales.Shape.Text()} do not belong together");
        }

        return new FoundTensor(name, new PanelSource(
            new PanelWeight("GPTQ", bits, tensor, zeros, scales, checkpoint.Find(module + ".g_idx"), groupSize)
            {
                PackedAlongInputs = true,
                ZeroOffset = quantization.String("checkpoint_format") == "gptq_v2" ? 0 : 1,
            },
            scales.Type));
    }
}
