using System.Runtime.CompilerServices;

namespace UnslothMerge.Formats.Quantized;

/// <summary>GPTQ, versions 1 and 2, with or without act-order; auto-round's layout is the same. Source: AutoGPTQ, GPTQModel,
/// auto-round 0.16.</summary>
internal sealed class GptqFormat() : QuantizedFormat("gptq", "auto-round")
{
    // Made once for each config: every module is compared with all of them.
    private static readonly ConditionalWeakTable<JsonObject, List<(ForeignPattern Pattern, JsonObject Options)>> Patterns = [];

    protected override IReadOnlyList<string> Companions => [".qzeros", ".scales", ".g_idx"];

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
        var bits = Option(quantization, module, "bits") ?? 4;
        var inputs = codes.Shape[0] * 32 / bits;
        var groupSize = Option(quantization, module, "group_size") ?? (int)inputs;
        var (groups, outputs, index) = (scales.Shape[0], scales.Shape[1], checkpoint.Find(module + ".g_idx"));

        if (index is null && quantization.Bool("desc_act") == true)
        {
            throw Damaged(name, $"'{module}.g_idx' is missing, and with desc_act in the config inputs are in no order without it");
        }

        // Without an index inputs are in the order of their groups; with one, a group may have any number of them.
        var fits = index is null ? groups == (inputs + groupSize - 1L) / groupSize
            : index.Type == TensorType.I32 && index.Shape is [var length] && length == inputs;
        if (bits is not (2 or 3 or 4 or 8) || !fits || codes.Shape[1] != outputs || zeros.Shape[0] != groups
            || zeros.Shape[1] != ((outputs * bits) + 31) / 32)
        {
            throw Damaged(
                name,
                $"{bits}-bit codes {codes.Shape.Text()}, zero points {zeros.Shape.Text()}, scales "
                + $"{scales.Shape.Text()}{(index is null ? "" : $" and g_idx {index.Shape.Text()}")} do not belong together in groups of "
                + $"{groupSize}");
        }

        return new FoundTensor(name, new PanelSource(
            new PanelWeight("GPTQ", bits, codes, zeros, scales, index, groupSize)
            {
                PackedAlongInputs = true,
                ZeroOffset = quantization.String("checkpoint_format") == "gptq_v2" || quantization.String("packing_format") == "auto_round"
                    ? 0 : 1,
            },
            quantization.String("quant_method") == "gptq" ? scales.Type : type));
    }

    // auto-round's extra_config: by the name of a module, or a pattern of names. What names the module itself comes first.
    private static int? Option(JsonObject quantization, string module, string key) =>
        Whole(
            Patterns.GetValue(quantization, PatternsOf).Where(p => p.Pattern.IsMatch(module)).Select(p => p.Options)
                .Prepend((quantization["extra_config"] as JsonObject)?[module] as JsonObject)
                .FirstOrDefault(o => o?.ContainsKey(key) == true) ?? quantization, key);

    private static List<(ForeignPattern Pattern, JsonObject Options)> PatternsOf(JsonObject quantization) =>
    [
        .. (quantization["extra_config"] as JsonObject ?? []).Where(p => p.Key.Contains('*', StringComparison.Ordinal))
            .Take(Limits.Patterns).Select(p => (p.Key, Options: p.Value as JsonObject)).Where(p => p.Options is not null)
            .Select(p => (new ForeignPattern($"^({p.Key})$", MergeError.InvalidModel, $"'{p.Key}' of extra_config"), p.Options!)),
    ];
}
