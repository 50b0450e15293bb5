namespace UnslothMerge.Adapters.Trainers;

/// <summary>LoRA of text encoders as kohya's sd-scripts and diffusers write it: one safetensors file without a config. kohya's names have
/// underscores for dots (<c>lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight</c>) and an alpha per module, which is
/// the rank where it is absent; diffusers' begin with the part of the pipeline. Sources: kohya-ss/sd-scripts, <c>networks/lora.py</c>;
/// diffusers 0.42, <c>loaders/lora_base.py</c>.</summary>
internal sealed partial class Diffusion : AdapterLayout
{
    private static readonly Dictionary<string, string> Factors = new()
    {
        ["lora_down.weight"] = "lora_A.weight", ["lora_linear_layer.down.weight"] = "lora_A.weight", ["lora_A.weight"] = "lora_A.weight",
        ["lora_up.weight"] = "lora_B.weight", ["lora_linear_layer.up.weight"] = "lora_B.weight", ["lora_B.weight"] = "lora_B.weight",
    };

    public override AdapterContent? Read(string directory)
    {
        if (Config(directory) is not null)
        {
            return null;
        }

        var files = Directory.EnumerateFiles(directory, "*.safetensors").Order(StringComparer.Ordinal).Select(SafetensorsFile.Open)
            .Where(f => f.Tensors.Any(t => Name().IsMatch(t.Name))).ToList();
        return files switch
        {
            [] => null,
            [var file] => Content(Config(file), file.File.Path, file.Tensors),
            _ => throw new MergeException(
                MergeError.InvalidAdapter,
                $"'{directory}' holds several adapters: {string.Join(", ", files.Select(f => f.File.Name))}.", directory,
                "Pass a directory that holds one of them."),
        };
    }

    public override AdapterContent Fit(AdapterContent content, ModelDirectory model)
    {
        var modules = model.Checkpoint.Tensors.Where(t => t.Name.EndsWith(".weight", StringComparison.Ordinal))
            .Select(t => t.Name[..^".weight".Length]).ToLookup(m => m.Replace('.', '_'));
        var (alphas, ranks, tensors) = (new JsonObject(), new JsonObject(), new List<StoredTensor>());
        using var files = new InputFiles();
        foreach (var tensor in content.Weights.Tensors)
        {
            var name = Name().Match(tensor.Name);
            var module = name.Groups["flat"] is { Success: true, Value: var flat } ? OnlyOne(modules[flat])
                : name.Groups["module"].Value;
            var part = Factors.GetValueOrDefault(name.Groups["part"].Value);
            if (module is null || part is null)
            {
                if (module is not null && name.Groups["part"].Value == "alpha" && tensor.Shape.Count() == 1)
                {
                    alphas[Regex.Escape(module)] = (double)AdapterValues.ReadFloats(files, tensor)[0];
                }
                else
                {
                    tensors.Add(tensor);
                }

                continue;
            }

            tensors.Add(tensor with { Name = $"base_model.model.{module}.{part}" });
            if (part == "lora_A.weight" && tensor.Shape.Count > 0)
            {
                ranks[Regex.Escape(module)] = (double)tensor.Shape[0];
            }
        }

        var config = (JsonObject)content.Config.DeepClone();
        if (!config.ContainsKey("lora_alpha"))
        {
            foreach (var (module, rank) in ranks)
            {
                alphas.TryAdd(module, rank!.DeepClone());
            }

            (config["r"], config["lora_alpha"], config["rank_pattern"], config["alpha_pattern"]) = (1.0, 1.0, ranks, alphas);
        }

        return content with { Config = config, Weights = content.Weights with { Tensors = tensors } };
    }

    // Two modules whose names differ in dots and underscores alone cannot be told apart.
    private static string? OnlyOne(IEnumerable<string> modules) => modules.Take(2).ToList() is [var only] ? only : null;

    // diffusers keeps PEFT's config in the file's metadata, each key behind the part of the pipeline.
    private static JsonObject Config(SafetensorsFile file)
    {
        const string Part = "text_encoder.";
        var config = new JsonObject { ["peft_type"] = "LORA" };
        if (file.Metadata.TryGetValue("lora_adapter_metadata", out var text) && Parse(text, file.File.Path) is JsonObject saved)
        {
            foreach (var (key, value) in saved.Where(p => p.Key.StartsWith(Part, StringComparison.Ordinal)))
            {
                config[key[Part.Length..]] = value?.DeepClone();
            }
        }

        return config;
    }

    private static JsonNode? Parse(string text, string path)
    {
        try
        {
            return JsonFile.Parse(text);
        }
        catch (JsonException e)
        {
            throw new MergeException(
                MergeError.InvalidAdapter, $"'lora_adapter_metadata' of '{path}' cannot be read: {e.Message}", path, inner: e);
        }
    }

    [GeneratedRegex(
        @"^(lora_(?<te>te\d?|unet)_(?<flat>[^.]+)|(text_encoder|text_encoder_2|unet|transformer)\.(?<module>.+?))"
        + @"\.(?<part>alpha|lora_(down|up)\.weight|lora_linear_layer\.(down|up)\.weight|lora_[AB]\.weight)$",
        RegexOptions.ExplicitCapture)]
    private static partial Regex Name();
}
