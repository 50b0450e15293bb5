namespace UnslothMerge.Adapters.Trainers;

/// <summary>mlx-lm's adapters: W + scale · (a · b)ᵀ with <c>lora_a</c> [in, r] and <c>lora_b</c> [r, out]; stacked experts scale · b · a
/// with [experts, r, in] and [experts, out, r]; DoRA's magnitude <c>m</c>; after a full fine-tuning whole tensors. Source: mlx-lm 0.32,
/// <c>tuner/lora.py</c>, <c>tuner/dora.py</c>.</summary>
internal sealed partial class Mlx : AdapterLayout
{
    private static readonly Dictionary<string, string> Mixtral = new() { ["gate_proj"] = "w1", ["down_proj"] = "w2", ["up_proj"] = "w3" };

    public override AdapterContent? Read(string directory)
    {
        var path = System.IO.Path.Combine(directory, "adapters.safetensors");
        if (Config(directory) is not { } mlx || mlx.ContainsKey("peft_type") || !File.Exists(path))
        {
            return null;
        }

        var tensors = SafetensorsFile.Open(path).Tensors;
        var config = new JsonObject { ["peft_type"] = "LORA", ["base_model_name_or_path"] = mlx.String("model") };
        if (tensors.FirstOrDefault(t => t.Name.EndsWith(".lora_b", StringComparison.Ordinal)) is { } factor)
        {
            var rank = factor.Shape.Count > 0 ? factor.Shape[factor.Shape.Count == 2 ? 0 : ^1] : throw new MergeException(
                MergeError.InvalidAdapter, $"'{factor.Name}' of '{path}' is one number, not a factor.", path, "Save the adapter again.");
            config["r"] = (double)rank;
            config["lora_alpha"] = rank * ((mlx["lora_parameters"] as JsonObject)?.Number("scale") ?? throw new MergeException(
                MergeError.InvalidAdapter, $"The adapter_config.json of '{directory}' has no lora_parameters.scale.", directory));
        }

        return Content(config, path, tensors.SelectMany(AsPeft));
    }

    // Mixtral's experts have names of their own, which mlx-lm replaces.
    public override AdapterContent Fit(AdapterContent content, ModelDirectory model) =>
        !model.Checkpoint.Tensors.Any(t => t.Name.Contains(".experts.0.w1.", StringComparison.Ordinal)) ? content : content with
        {
            Weights = content.Weights with
            {
                Tensors =
                [
                    .. content.Weights.Tensors.Select(t => t with
                    {
                        Name = Regex.Replace(
                            t.Name, @"(?<=\.experts\.\d+\.)(gate|down|up)_proj(?=\.)", m => Mixtral[m.Value], RegexOptions.ExplicitCapture),
                    }),
                ],
            },
        };

    private static IEnumerable<StoredTensor> AsPeft(StoredTensor tensor)
    {
        var dot = tensor.Name.LastIndexOf('.');
        var (module, part) = ($"base_model.model.{tensor.Name[..Math.Max(0, dot)]}", tensor.Name[(dot + 1)..]);
        var name = part switch
        {
            "lora_a" or "lora_b" => TensorNames.IsInputEmbedding($"{module}.weight")
                ? $"lora_embedding_{char.ToUpperInvariant(part[^1])}"
                : $"lora_{char.ToUpperInvariant(part[^1])}.weight",
            "m" => "lora_magnitude_vector",
            _ => part,
        };
        return part is not ("lora_a" or "lora_b") || tensor.Shape is not ([_, _] or [<= Limits.Experts, _, _])
            ? [tensor with { Name = $"{module}.{name}" }]
            : tensor.Shape.Count == 2 ? [tensor.Transposed() with { Name = $"{module}.{name}" }]
            : Enumerable.Range(0, (int)tensor.Shape[0]).Select(
                e => tensor.Slice(e) with { Name = $"{ExpertPattern().Replace(module, $".experts.{e}.")}.{name}" });
    }

    [GeneratedRegex(@"\.(switch_mlp|switch_glu|experts)\.(?=[^.]+$)", RegexOptions.ExplicitCapture)]
    private static partial Regex ExpertPattern();
}
