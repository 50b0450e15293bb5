namespace UnslothMerge.Bench.Generating;

/// <summary>Makes a LoRA adapter on all linear layers, or on some modules of each, as PEFT's <c>save_pretrained</c> writes it.</summary>
internal static class AdapterGenerator
{
    /// <summary>Makes an adapter and gives the bytes of its tensors' file; a sparse one has no data.</summary>
    public static long Generate(
        ModelShape shape, int rank, string directory, TensorType type, bool dora, bool sparse, CancellationToken cancellation,
        IReadOnlyList<string>? modules = null)
    {
        var all =
            from layer in Enumerable.Range(0, shape.Layers)
            from linear in shape.Linears
            where modules?.Contains(linear.Module.Split('.')[1]) != false
            select ($"layers.{layer}.{linear.Module}", linear.Out, linear.In);
        return Generate($"bench/{shape.Name}", all, rank, directory, type, dora, sparse, cancellation);
    }

    /// <summary>Makes an adapter on some modules: names below the model, outputs, inputs.</summary>
    public static long Generate(
        string model, IEnumerable<(string Module, int Out, int In)> modules, int rank, string directory, TensorType type, bool dora,
        bool sparse, CancellationToken cancellation)
    {
        Directory.CreateDirectory(directory);
        var linears = modules.ToList();
        var config = new JsonObject
        {
            ["base_model_name_or_path"] = model,
            ["lora_alpha"] = 2 * rank,
            ["peft_type"] = "LORA",
            ["r"] = rank,
            ["target_modules"] = new JsonArray(
                [.. linears.Select(l => l.Module.Split('.')[^1]).Distinct().Select(m => JsonValue.Create(m))]),
            ["task_type"] = "CAUSAL_LM",
            ["use_dora"] = dora,
        };
        File.WriteAllText(Path.Combine(directory, "adapter_config.json"), JsonFile.Text(config));

        // So small that even the sum over a large rank stays below the weights.
        var block = sparse ? null : new RandomBlock(type, 0.01, seed: 2 + rank);
        var file = Path.Combine(directory, "adapter_model.safetensors");
        return TensorFiles.Write(file, linears.SelectMany(l => Tensors(l.Module, l.Out, l.In, rank, type, dora)), block, cancellation);
    }

    private static IEnumerable<TensorSpec> Tensors(string module, int rows, int columns, int rank, TensorType type, bool dora)
    {
        var prefix = $"base_model.model.model.{module}";
        yield return new TensorSpec($"{prefix}.lora_A.weight", type, [rank, columns]);
        yield return new TensorSpec($"{prefix}.lora_B.weight", type, [rows, rank]);
        if (dora)
        {
            yield return new TensorSpec($"{prefix}.lora_magnitude_vector", type, [rows]);
        }
    }
}
