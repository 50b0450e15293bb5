namespace UnslothMerge.Formats.Quantized;

/// <summary>MLX: <c>P.weight</c> U32, codes packed without gaps, the first lowest, with <c>P.scales</c> for each group of a row. The mode
/// affine has integers and <c>P.biases</c>: W = code · scale + bias; mxfp4, mxfp8 and nvfp4 have floats. Modules may have options of their
/// own in the config. Source: mlx 0.32, <c>quantize</c>.</summary>
internal sealed class MlxFormat() : QuantizedFormat("mlx")
{
    protected override IReadOnlyList<string> Companions => [".scales", ".biases"];

    protected override FoundTensor? TryRead(StoredTensor tensor, Checkpoint checkpoint, JsonObject quantization, TensorType type)
    {
        if (Stem(tensor.Name, ".weight") is not { } module || tensor.Type != TensorType.U32
            || checkpoint.Find($"{module}.scales") is not { } scales)
        {
            return null;
        }

        if (tensor.Shape.Count != 2)
        {
            throw new MergeException(
                MergeError.UnsupportedFormat,
                $"'{tensor.Name}' {tensor.Shape.Text()} holds stacked experts, which are not read in MLX's format.", tensor.Name,
                "Use the 16-bit original of this model as the base.");
        }

        var options = quantization[module] as JsonObject ?? quantization;
        var (bits, mode) = (Whole(options, "bits") ?? Whole(quantization, "bits") ?? 4, options.String("mode") ?? "affine");
        var stated = Whole(options, "group_size") ?? Whole(quantization, "group_size");
        var group = stated ?? 64;
        if (bits > 8)
        {
            throw Damaged(tensor.Name, $"the config says {bits} bits, and MLX packs at most 8");
        }

        var bytes = tensor.Shape[1] * sizeof(uint);
        long[] shape = [tensor.Shape[0], bytes * 8 / bits];

        // Codes of another width would still fill the row, with other columns.
        if (stated is not null && !scales.Shape.SequenceEqual([shape[0], shape[1] / group]))
        {
            throw Damaged(tensor.Name, $"'{scales.Name}' {scales.Shape.Text()} does not fit {shape.Text()} of {bits} bits in groups of "
                + $"{group}");
        }

        var grid = ScaleGrid.Of(tensor.Name, scales, shape, (1, group)) with
        {
            Type = mode == "nvfp4" ? TensorType.F8_E4M3 : scales.Type,
        };
        var weight = mode switch
        {
            "mxfp4" => Floats("MXFP4", Codes.FourBitFloats, CodeBook.E2M1),
            "nvfp4" => Floats("NVFP4", Codes.FourBitFloats, CodeBook.E2M1),
            "mxfp8" => Floats("FP8", Codes.Of(TensorType.F8_E4M3)!, CodeBook.E4M3),
            "affine" => Affine(),
            _ => throw new MergeException(
                MergeError.UnsupportedFormat, $"'{tensor.Name}' is in MLX's mode '{mode}', which is not known.", tensor.Name,
                "Use the 16-bit original of this model as the base."),
        };
        return new FoundTensor(tensor.Name, new ScaledSource(weight, type));

        ScaledWeight Floats(string format, CodeDecoder decoder, CodeBook book) => new(format, tensor, shape, decoder, bytes, grid)
        {
            Book = book,
            Layout = CodeLayout.Packed(bits, bytes),
        };

        ScaledWeight Affine()
        {
            var biases = Require(checkpoint, $"{module}.biases", tensor.Name);
            return Floats($"INT{bits}", Codes.PackedIntegers(bits, signed: false), CodeBook.Integers(0, (1 << bits) - 1)) with
            {
                Biases = new ScaleGrid(biases, grid.Blocks),
                WrittenBack = name => new AffineSink(name, new AffineWeight($"INT{bits}", tensor, scales, biases, bits, group)),
            };
        }
    }
}
