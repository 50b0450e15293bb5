using UnslothMerge.Formats.Quantized;

namespace UnslothMerge.Planning;

/// <summary>What shares a scale in an FP8 output, in compressed-tensors' words.</summary>
internal enum Fp8Strategy
{
    /// <summary>Blocks of 128 × 128, as DeepSeek and transformers have it.</summary>
    Block,

    /// <summary>Rows of a weight, as compressed-tensors has it.</summary>
    Channel,
}

/// <summary>What the caller wants of an FP8 output; a null strategy leaves it to the base, or to blocks.</summary>
internal sealed record Fp8Request(Fp8Strategy? Strategy) : OutputRequest
{
    internal override OutputSelection Choose(MergePlan merge, TensorType? type) =>
        merge.Tensors.Any(t => t.Source.Format == Fp8Selection.Format)
            && (Strategy is null || Strategy == Fp8Selection.StrategyOf(merge.Base.Config.Quantization!))
            ? new BaseFormatSelection(merge)
            : new Fp8Selection(merge, this, Strategy ?? Fp8Strategy.Block);
}

/// <summary>
/// Linear layers in FP8 (E4M3), and experts that are FP8 in the base; a loaded model quantizes its activations by itself. Sources:
/// transformers' <c>FineGrainedFP8Config</c>; compressed-tensors' <c>QuantizationConfig</c>; vLLM loads both.
/// </summary>
internal sealed class Fp8Selection(MergePlan merge, Fp8Request request, Fp8Strategy strategy) : OutputSelection
{
    /// <summary>The name of the format.</summary>
    public const string Format = "FP8";

    private const int BlockSize = 128;

    /// <summary>What shares a scale in a base.</summary>
    public static Fp8Strategy? StrategyOf(JsonObject quantization) => quantization["weight_block_size"] is JsonArray ? Fp8Strategy.Block
        : quantization["config_groups"] is JsonObject groups
            && groups.All(g => ((g.Value as JsonObject)?["weights"] as JsonObject)?.String("strategy") == "channel") ? Fp8Strategy.Channel
        : null;

    public override string Quantized => Format;

    public override LinearLayers Layers { get; } = new(merge, request, new ReaderRules(
        Conv1D: false, Experts: true, strategy == Fp8Strategy.Block ? BlockSize : null,
        t => strategy == Fp8Strategy.Block && t.Source.Format == Format && t.Shape.Count > 2 ? ReaderRules.Codes : null));

    public override TensorSink? For(LogicalTensor tensor, TensorType type)
    {
        if (Layers.Find(tensor) is null)
        {
            return null;
        }

        var (rows, columns) = (tensor.Shape[^2], checked((int)tensor.Shape[^1]));
        var isBlock = strategy == Fp8Strategy.Block;
        if (!isBlock || (tensor.Shape.Count == 2 && columns % BlockSize == 0 && tensor.Name.EndsWith(".weight", StringComparison.Ordinal)))
        {
            // Scales of rows as the model's own dtype, which a loader would round them to; F16 is too small for scales.
            return new CompressedSink(new CompressedWeight(
                TensorNames.ModuleOf(tensor.Name), rows, columns, isBlock ? CompressedScheme.Fp8Block : CompressedScheme.Fp8Dynamic,
                TensorType.F32, !isBlock && type == TensorType.BF16 ? type : TensorType.F32)
            {
                ScaleEnding = isBlock ? "weight_scale_inv" : "weight_scale",
                EmptyScale = isBlock ? 1 : null,
            });
        }

        var codes = new TensorSpec(tensor.Name, TensorType.F8_E4M3, tensor.Shape);
        long[] grid = [.. tensor.Shape.SkipLast(2), Blocks(rows), Blocks(columns)];
        return new GridSink(
            new GridWeight(
                Format, codes, new TensorSpec($"{tensor.Name}_scale_inv", TensorType.F32, grid), CodeBook.E4M3, CodeLayout.Bytes,
                new ScaleBlocks(rows, BlockSize, BlockSize, (int)grid[^1])),
            tensor.View);
    }

    public override ModelConfig Configure(ModelConfig config) => config.WithQuantization(
        strategy == Fp8Strategy.Block
            ? BlockConfig([.. Layers.Skips.Select(s => (JsonNode)s)])
            : ChannelConfig([.. Layers.Ignored.Select(s => (JsonNode)s)]));

    private static long Blocks(long length) => (length + BlockSize - 1) / BlockSize;

    private static JsonObject BlockConfig(JsonArray skipped) => new()
    {
        ["activation_scheme"] = "dynamic",
        ["fmt"] = "e4m3",
        ["modules_to_not_convert"] = skipped,
        ["quant_method"] = "fp8",
        ["weight_block_size"] = new JsonArray(BlockSize, BlockSize),
    };

    private static JsonObject ChannelConfig(JsonArray skipped)
    {
        return new JsonObject
        {
            ["config_groups"] = new JsonObject
            {
                ["group_0"] = new JsonObject
                {
                    ["format"] = "float-quantized",
                    ["input_activations"] = Arguments("token", dynamic: true),
                    ["output_activations"] = null,
                    ["targets"] = new JsonArray("Linear"),
                    ["weights"] = Arguments("channel", dynamic: false),
                },
            },
            ["format"] = "float-quantized",
            ["global_compression_ratio"] = null,
            ["ignore"] = skipped,
            ["kv_cache_scheme"] = null,
            ["quant_method"] = "compressed-tensors",
            ["quantization_status"] = "compressed",
        };

        static JsonObject Arguments(string strategy, bool dynamic) => new()
        {
            ["dynamic"] = dynamic,
            ["group_size"] = null,
            ["num_bits"] = 8,
            ["strategy"] = strategy,
            ["symmetric"] = true,
            ["type"] = "float",
        };
    }
}
