namespace UnslothMerge.Formats.Quantized;

/// <summary>The formats of compressed-tensors: float-quantized and int-quantized (<c>P.weight</c> with <c>P.weight_scale</c>),
/// pack-quantized, nvfp4-pack and mxfp4-pack (<c>P.weight_packed</c>). Source: neuralmagic/compressed-tensors 0.20.</summary>
internal sealed class CompressedTensorsFormat() : QuantizedFormat("compressed-tensors")
{
    // Eight dimensions.
    private const int MaxShapeBytes = 64;

    protected override IReadOnlyList<string> Companions =>
        [".weight_scale", ".weight_zero_point", ".weight_global_scale", ".weight_g_idx", ".weight_shape"];

    protected override FoundTensor? TryRead(StoredTensor tensor, Checkpoint checkpoint, JsonObject quantization, TensorType type)
    {
        if (Stem(tensor.Name, ".weight_packed") is { } packed)
        {
            return Packed(packed, tensor, checkpoint, quantization, type);
        }

        var scaled = Stem(tensor.Name, ".weight") is { } module ? checkpoint.Find(module + ".weight_scale") : null;
        if (scaled is null || tensor.Shape.Count < 2 || Codes.Of(tensor.Type) is not { } decoder)
        {
            return null;
        }

        var name = tensor.Name;
        var stem = Stem(name, ".weight")!;
        var zero = checkpoint.Find(stem + ".weight_zero_point");
        return new FoundTensor(name, new ScaledSource(
            AsStated(quantization, stem, 8, new ScaledWeight(
                tensor.Type == TensorType.I8 ? "INT8" : "FP8", tensor, tensor.Shape, decoder, tensor.Shape[^1],
                ScaleGrid.Of(
                    name, scaled, tensor.Shape,
                    Groups(quantization).Select(g => Block(g, "block_structure")).FirstOrDefault(b => b is not null)))
            {
                Book = CodeBook.Of(tensor.Type),
                Zeros = zero is null ? null : new ZeroPoints(zero, 0),
                GroupIndex = checkpoint.Find(stem + ".weight_g_idx"),
                Ignored = Activations(checkpoint, stem),
            }),
            type));
    }

    private static FoundTensor Packed(string module, StoredTensor tensor, Checkpoint checkpoint, JsonObject quantization, TensorType type)
    {
        var name = module + ".weight";
        var scale = Require(checkpoint, module + ".weight_scale", name);
        if (tensor.Type == TensorType.U8 && tensor.Shape.Count >= 2)
        {
            // Scales in E4M3 span too little to do without (NVFP4); powers of two (MXFP4) have none.
            var global = scale.Type == TensorType.F8_E4M3 ? Require(checkpoint, module + ".weight_global_scale", name) : null;
            return new FoundTensor(name, new ScaledSource(
                AsStated(quantization, module, 4, ScaledWeight.Fp4(tensor, scale, null) with
                {
                    Global = global is null ? null : new GlobalScale(global, Divides: true),
                    Ignored = Activations(checkpoint, module),
                }),
                type));
        }

        var shapeTensor = Require(checkpoint, module + ".weight_shape", name);
        using var files = new InputFiles();
        if (shapeTensor.Type is not (TensorType.I64 or TensorType.I32) || shapeTensor.Length > MaxShapeBytes
            || tensor.Type != TensorType.I32 || tensor.Shape.Count < 2)
        {
            throw Damaged(
                name, $"'{tensor.Name}' is {tensor.Type} {tensor.Shape.Text()}, '{shapeTensor.Name}' is {shapeTensor.Type} "
                + $"{shapeTensor.Shape.Text()}");
        }

        var shape = shapeTensor.Type == TensorType.I64
            ? files.ReadAll<long>(shapeTensor)
            : Array.ConvertAll(files.ReadAll<int>(shapeTensor), d => (long)d);
        var bits = Bits(quantization, tensor, shape) ?? throw Damaged(
            name, $"{tensor.Shape.Text()} words do not hold {shape.Text()} codes");
        var zero = checkpoint.Find(module + ".weight_zero_point");
        return new FoundTensor(name, new ScaledSource(
            AsStated(quantization, module, bits, new ScaledWeight(
                $"INT{bits}", tensor, shape, Codes.PackedIntegers(bits), tensor.Shape[^1] * sizeof(int),
                ScaleGrid.Of(name, scale, shape, null))
            {
                Book = CodeBook.Integers(-1 << (bits - 1), (1 << (bits - 1)) - 1, 1 << (bits - 1)),
                Layout = CodeLayout.Packed(bits, tensor.Shape[^1] * sizeof(int)),
                Zeros = zero is null ? null : new ZeroPoints(zero, zero.Type == TensorType.I32 ? bits : 0),
                GroupIndex = checkpoint.Find(module + ".weight_g_idx"),
                Ignored = [shapeTensor, .. Activations(checkpoint, module)],
            }),
            type));
    }

    // What all groups of so many bits say of a weight must hold; which of several is its own is not known: targets may be classes.
    private static ScaledWeight AsStated(JsonObject quantization, string module, int bits, ScaledWeight weight)
    {
        var groups = Groups(quantization).Where(g => Whole(g, "num_bits") == bits).ToList();
        if (groups.Count == 0)
        {
            return weight;
        }

        var sizes = groups.ConvertAll(g => Whole(g, "group_size"));
        var group = weight.Scales.Blocks.BlockColumns;
        var lacking = weight.Zeros is null && groups.TrueForAll(g => g.Bool("symmetric") == false) ? "weight_zero_point"
            : weight.GroupIndex is null && groups.TrueForAll(g => g.String("actorder") is "group" or "dynamic") ? "weight_g_idx"
            : null;
        return lacking is not null ? throw Damaged(
                $"{module}.weight", $"'{module}.{lacking}' is missing, which a weight as the config describes it has")
            : weight.GroupIndex is null && !sizes.Contains(null) && !sizes.Contains(group) ? throw Damaged(
                $"{module}.weight", $"its scales are those of groups of {group}, and the config says {string.Join(" or ", sizes)}")
            : weight;
    }

    // Of the groups of the config, one whose width fits the words; each module's own group is not needed.
    private static int? Bits(JsonObject quantization, StoredTensor packed, long[] shape) =>
        Groups(quantization).Select(g => Whole(g, "num_bits")).OfType<int>().Distinct()
            .Where(b => b <= 8 && shape.Length == packed.Shape.Count && shape.SkipLast(1).SequenceEqual(packed.Shape.SkipLast(1))
                && shape[^1] is > 0 and < int.MaxValue && packed.Shape[^1] == ((shape[^1] * b) + 31) / 32)
            .Select(b => (int?)b).FirstOrDefault();

    private static IEnumerable<JsonObject> Groups(JsonObject quantization) =>
        (quantization["config_groups"] as JsonObject)?.Select(g => (g.Value as JsonObject)?["weights"]).OfType<JsonObject>() ?? [];
}
