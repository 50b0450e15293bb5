using UnslothMerge.Models;

namespace UnslothMerge.Formats.Quantized;

/// <summary>GPTQ, versions 1 and 2, with or without act-order; auto-round's layout is the same. Source: AutoGPTQ, GPTQModel,
/// auto-round 0.16.</summary>
internal sealed class GptqFormat() : QuantizedFormat("gptq", "auto-round")
{
    protected override FoundTensor? TryRead(StoredTensor tensor, Checkpoint checkpoint, JsonObject quantization, TensorType type)
    {
        if (Stem(tensor.Name, ".qweight") is not { } module)
        {
            return null;
        }

        var name = module + ".weight";
        var bits = (int?)Option(quantization, module, "bits") ?? 4;
        var (zeros, scales) = (Require(checkpoint, module + ".qzeros", name), Require(checkpoint, module + ".scales", name));
        var inputs = tensor.Shape[0] * 32 / bits;
        var groupSize = (int?)Option(quantization, module, "group_size") is { } size and > 0 ? size : (int)inputs;
        var (groups, outputs, index) = (scales.Shape[0], scales.Shape[1], checkpoint.Find(module + ".g_idx"));

        // Without an index inputs are in the order of their groups; with one, a group may have any number of them.
        var fits = index is null ? groups == (inputs + groupSize - 1) / groupSize : index.Shape is [var length] && length == inputs;
        if (bits is not (2 or 3 or 4 or 8) || !fits || tensor.Shape[1] != outputs || zeros.Shape[0] != groups
            || zeros.Shape[1] != ((outputs * bits) + 31) / 32)
        {
            throw Damaged(
                name,
                $"{bits}-bit codes {tensor.Shape.Text()}, zero points {zeros.Shape.Text()}, scales "
                + $"{scales.Shape.Text()}{(index is null ? "" : $" and g_idx {index.Shape.Text()}")} do not belong together in groups of "
                + $"{groupSize}");
        }

        return new FoundTensor(name, new PanelSource(
            new PanelWeight("GPTQ", bits, tensor, zeros, scales, index, groupSize)
            {
                PackedAlongInputs = true,
                ZeroOffset = quantization.String("checkpoint_format") == "gptq_v2" || quantization.String("packing_format") == "auto_round"
                    ? 0 : 1,
            },
            quantization.String("quant_method") == "gptq" ? scales.Type : type));
    }

    // auto-round's extra_config: by the name of a module, or a pattern of names.
    private static double? Option(JsonObject quantization, string module, string key) =>
        (quantization["extra_config"] as JsonObject)?
            .Where(p => p.Key == module || (p.Key.Contains('*', StringComparison.Ordinal) && Regex.IsMatch(module, $"^({p.Key})$")))
            .Select(p => (p.Value as JsonObject)?.Number(key)).FirstOrDefault(v => v is not null) ?? quantization.Number(key);
}
