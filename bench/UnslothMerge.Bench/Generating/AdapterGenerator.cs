namespace UnslothMerge.Bench.Generating;

/// <summary>Makes a LoRA adapter on all linear layers, as PEFT's <c>save_pretrained</c> writes it.</summary>
internal static class AdapterGenerator
{
    /// <summary>Makes an adapter and gives the bytes of its tensors' file; a sparse one has no data.</summary>
    public static long Generate(
        ModelShape shape, int rank, string directory, TensorType type, bool dora, bool sparse, CancellationToken cancellation)
    {
        Directory.CreateDirectory(directory);
        var config = new JsonObject
        {
            ["base_model_name_or_path"] = $"bench/{shape.Name}",
            ["lora_alpha"] = 2 * rank,
            ["peft_type"] = "LORA",
            ["r"] = rank,
            ["target_modules"] = new JsonArray([.. shape.Linears.Select(l => JsonValue.Create(l.Module.Split('.')[1]))]),
            ["task_type"] = "CAUSAL_LM",
            ["use_dora"] = dora,
        };
        File.WriteAllText(Path.Combine(directory, "adapter_config.json"), JsonFile.Text(config));

        // So small that even the sum over a large rank stays below the weights.
        var block = sparse ? null : new RandomBlock(type, 0.01, seed: 2 + rank);
        var file = Path.Combine(directory, "adapter_model.safetensors");
        return TensorFiles.Write(file, Tensors(shape, rank, type, dora), block, cancellation);
    }

    private static IEnumerable<TensorSpec> Tensors(ModelShape shape, int rank, TensorType type, bool dora)
    {
        for (var layer = 0; layer < shape.Layers; layer++)
        {
            foreach (var (module, rows, columns) in shape.Linears)
            {
                var prefix = $"base_model.model.model.layers.{layer}.{module}";
                yield return new TensorSpec($"{prefix}.lora_A.weight", type, [rank, columns]);
                yield return new TensorSpec($"{prefix}.lora_B.weight", type, [rows, rank]);
                if (dora)
                {
                    yield return new TensorSpec($"{prefix}.lora_magnitude_vector", type, [rows]);
                }
            }
        }
    }
}
