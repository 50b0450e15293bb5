using UnslothMerge.Formats.BitsAndBytes;
using UnslothMerge.Formats.Quantized;

namespace UnslothMerge.Formats;

/// <summary>A logical tensor found in a checkpoint, by its plain name, as a 16-bit checkpoint would have it.</summary>
internal sealed record FoundTensor(string Name, TensorSource Source);

/// <summary>A way of storing weights in several tensors: finds the weights that are stored so.</summary>
internal interface IStoredFormat
{
    /// <summary>Finds the weights stored in this format.</summary>
    IEnumerable<FoundTensor> Find(Checkpoint checkpoint, ModelConfig config);
}

/// <summary>The number formats that can be read, and the logical tensors of a model in any of them.</summary>
internal static class StoredFormats
{
    // One row per format. What no row claims is a plain tensor.
    private static readonly IStoredFormat[] Table =
    [
        new FourBitFormat(),
        new Int8Format(),
        new Fp8Format(),
        new MxFp4Format(),
        new GptqFormat(),
        new AwqFormat(),
        new CompressedTensorsFormat(),
        new ModelOptFormat(),
        new MlxFormat(),
    ];

    /// <summary>The logical tensors of a model, in the order of their weights on disk.</summary>
    public static IReadOnlyList<FoundTensor> Read(ModelDirectory model)
    {
        var claimed = new HashSet<string>(StringComparer.Ordinal);
        var byMainTensor = new Dictionary<string, FoundTensor>(StringComparer.Ordinal);
        RefuseUnknownMethod(model);
        foreach (var found in Table.SelectMany(f => f.Find(model.Checkpoint, model.Config)))
        {
            if (!byMainTensor.TryAdd(found.Source.Inputs[0].Name, found))
            {
                throw QuantizedFormat.Damaged(found.Name, "it is described twice");
            }

            claimed.UnionWith(found.Source.Inputs.Select(t => t.Name));
        }

        IReadOnlyList<FoundTensor> tensors = byMainTensor.Count == 0
            ? new MappedList<StoredTensor, FoundTensor>(model.Checkpoint.Tensors, (tensor, _) => Plain(tensor))
            : [.. model.Checkpoint.Tensors
                .Where(t => byMainTensor.ContainsKey(t.Name) || !claimed.Contains(t.Name))
                .Select(t => byMainTensor.GetValueOrDefault(t.Name) ?? Plain(t))];
        foreach (var format in Table.OfType<QuantizedFormat>())
        {
            format.RefuseOrphans(model.Config, tensors.Where(t => t.Source is PlainSource).Select(t => t.Source.Inputs[0]));
        }

        RefuseLeftovers(model, tensors);
        return tensors;
    }

    private static FoundTensor Plain(StoredTensor tensor) => new(tensor.Name, new PlainSource(tensor));

    /// <summary>The quantization method that a config names.</summary>
    internal static string MethodOf(JsonObject quantization) =>
        quantization.String("quant_method") is { } method
            ? method.StartsWith("modelopt", StringComparison.OrdinalIgnoreCase) ? "modelopt"
                : method.EndsWith("auto-round", StringComparison.OrdinalIgnoreCase) ? PackingOf(quantization)
                : method
            : quantization.Bool("load_in_4bit") == true || quantization.Bool("load_in_8bit") == true ? "bitsandbytes"
            : quantization.ContainsKey("quant_algo") ? "modelopt"
            : quantization.ContainsKey("bits") && quantization.ContainsKey("group_size") ? "mlx"
            : "(none)";

    // auto-round writes what other formats hold, and GPTQ's layout in two ways.
    private static string PackingOf(JsonObject quantization) =>
        ((quantization["packing_format"] ?? quantization["backend"])?.ToString() ?? "") switch
        {
            var p when p.Contains("awq", StringComparison.Ordinal) => "awq",
            var p when p.Contains("llm_compressor", StringComparison.Ordinal) => "compressed-tensors",
            var p when p.Contains("fp8", StringComparison.Ordinal) => "fp8",
            var p when p.Length == 0 || p.Contains("round", StringComparison.Ordinal) || p.Contains("gptq", StringComparison.Ordinal) =>
                "auto-round",
            var p => $"auto-round, packed as '{p}'",
        };

    private static void RefuseUnknownMethod(ModelDirectory model)
    {
        if (model.Config.Quantization is not { } quantization)
        {
            return;
        }

        var method = MethodOf(quantization);
        if (!Table.OfType<QuantizedFormat>().SelectMany(f => f.Methods).Contains(method, StringComparer.OrdinalIgnoreCase))
        {
            throw Unsupported(model, $"it is quantized with the method '{method}'");
        }
    }

    // A quantized weight without its companions would be copied as if its codes were numbers.
    private static void RefuseLeftovers(ModelDirectory model, IReadOnlyList<FoundTensor> tensors)
    {
        var storage = model.Config.Quantization is { } quantization && quantization.Bool("load_in_4bit") == true
            ? TensorTypes.FromTorchName(quantization.String("bnb_4bit_quant_storage")) : null;
        var codes = tensors.Where(t => t.Source is PlainSource && (
            (t.Source.Type == storage && t.Source.Shape is [_, 1] && t.Name.EndsWith(".weight", StringComparison.Ordinal))
            || (!t.Source.Type.IsPlainFloat() && (t.Name.EndsWith(".weight", StringComparison.Ordinal)
                || (t.Source.Type is TensorType.F8_E4M3 or TensorType.F8_E5M2 or TensorType.F4 && t.Source.Shape.Count > 1))))).ToList();
        if (codes.Count > 0)
        {
            throw Unsupported(model,
                $"{codes.Count} of its weights hold codes instead of numbers, among them '{codes[0].Name}' " +
                $"({codes[0].Source.Type} {codes[0].Source.Shape.Text()})");
        }
    }

    private static MergeException Unsupported(ModelDirectory model, string why) => new(
        MergeError.UnsupportedFormat,
        $"The base '{model.Path}' cannot be decoded: {why}. Formats that can be read: F32, F16, BF16, and the quantization methods " +
            $"{string.Join(", ", Table.OfType<QuantizedFormat>().SelectMany(f => f.Methods).Distinct())}.",
        model.Path,
        "Use the 16-bit original of this model as the base.");
}
