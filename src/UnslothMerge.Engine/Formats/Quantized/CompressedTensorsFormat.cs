using UnslothMerge.IO;
using UnslothMerge.Models;

namespace UnslothMerge.Formats.Quantized;

/// <summary>The formats of compressed-tensors: float-quantized and int-quantized (<c>P.weight</c> with <c>P.weight_scale</c>),
/// pack-quantized, nvfp4-pack and mxfp4-pack (<c>P.weight_packed</c>). Source: neuralmagic/compressed-tensors 0.20.</summary>
internal sealed class CompressedTensorsFormat() : QuantizedFormat("compressed-tensors")
{
    // Eight dimensions.
    private const int MaxShapeBytes = 64;

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
            new ScaledWeight(
                tensor.Type == TensorType.I8 ? "INT8" : "FP8", tensor, tensor.Shape, decoder, tensor.Shape[^1],
                ScaleGrid.Of(
                    name, scaled, tensor.Shape,
                    Groups(quantization).Select(g => Block(g, "block_structure")).FirstOrDefault(b => b is not null)))
            {
                Book = CodeBook.Of(tensor.Type),
                Zeros = zero is null ? null : new ZeroPoints(zero, 0),
                GroupIndex = checkpoint.Find(stem + ".weight_g_idx"),
                Ignored = Activations(checkpoint, stem),
            },
            type));
    }

    private static FoundTensor Packed(string module, StoredTensor tensor, Checkpoint checkpoint, JsonObject quantization, TensorType type)
    {
        var name = module + ".weight";
        var scale = Require(checkpoint, module + ".weight_scale", name);
        if (tensor.Type == TensorType.U8 && tensor.Shape.Count >= 2)
        {
            return new FoundTensor(name, new ScaledSource(
                ScaledWeight.Fp4(tensor, scale, null) with
                {
                    Global = checkpoint.Find(module + ".weight_global_scale") is { } global ? new GlobalScale(global, Divides: true) : null,
                    Ignored = Activations(checkpoint, module),
                },
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
            new ScaledWeight(
                $"INT{bits}", tensor, shape, Codes.PackedIntegers(bits), tensor.Shape[^1] * sizeof(int),
                ScaleGrid.Of(name, scale, shape, null))
            {
                Book = CodeBook.Integers(-1 << (bits - 1), (1 << (bits - 1)) - 1, 1 << (bits - 1)),
                Layout = CodeLayout.Packed(bits, tensor.Shape[^1] * sizeof(int)),
                Zeros = zero is null ? null : new ZeroPoints(zero, zero.Type == TensorType.I32 ? bits : 0),
                GroupIndex = checkpoint.Find(module + ".weight_g_idx"),
                Ignored = [shapeTensor, .. Activations(checkpoint, module)],
            },
            type));
    }

    // Of the groups of the config, one whose width fits the words; each module's own group is not needed.
    private static int? Bits(JsonObject quantization, StoredTensor packed, long[] shape) =>
        Groups(quantization).Select(g => Whole(g, "num_bits")).OfType<int>().Distinct()
            .Where(b => b is > 0 and <= 8 && shape.SkipLast(1).SequenceEqual(packed.Shape.SkipLast(1)) && shape[^1] is > 0 and < int.MaxValue
                && packed.Shape[^1] == ((shape[^1] * b) + 31) / 32).Select(b => (int?)b).FirstOrDefault();

    private static IEnumerable<JsonObject> Groups(JsonObject quantization) =>
        (quantization["config_groups"] as JsonObject)?.Select(g => (g.Value as JsonObject)?["weights"] as JsonObject).OfType<JsonObject>() ?? [];
}
