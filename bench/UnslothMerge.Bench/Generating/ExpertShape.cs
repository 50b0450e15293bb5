namespace UnslothMerge.Bench.Generating;

/// <summary>The dimensions of a mixture of experts, each expert with tensors of its own.</summary>
internal sealed record ExpertShape(string Name, string ModelType, string Class, int Layers, int Experts, int Hidden, int Width, int Shards)
{
    /// <summary>Bases with so many tensors that planning is what takes time: about a hundred thousand; those of a model of 10¹²
    /// parameters; as many as a header has room for; a million.</summary>
    public static IReadOnlyList<ExpertShape> Known { get; } =
    [
        new("100k", "qwen3_moe", "Qwen3MoeForCausalLM", 48, 694, 8, 4, 1),
        new("1t", "deepseek_v3", "DeepseekV3ForCausalLM", 61, 384, 7168, 2048, 500),
        new("330k", "qwen3_moe", "Qwen3MoeForCausalLM", 100, 1100, 8, 4, 1),
        new("1m", "qwen3_moe", "Qwen3MoeForCausalLM", 200, 1667, 8, 4, 16),
    ];

    /// <summary>The tensors in the order of the model.</summary>
    public IEnumerable<TensorSpec> Tensors()
    {
        yield return new TensorSpec("model.embed_tokens.weight", TensorType.BF16, [64, Hidden]);
        for (var layer = 0; layer < Layers; layer++)
        {
            for (var expert = 0; expert < Experts; expert++)
            {
                var module = $"model.layers.{layer}.mlp.experts.{expert}";
                yield return new TensorSpec($"{module}.gate_proj.weight", TensorType.BF16, [Width, Hidden]);
                yield return new TensorSpec($"{module}.up_proj.weight", TensorType.BF16, [Width, Hidden]);
                yield return new TensorSpec($"{module}.down_proj.weight", TensorType.BF16, [Hidden, Width]);
            }
        }
    }

    /// <summary>Writes the model, without data, and an adapter on four of its experts.</summary>
    public void Generate(string model, string adapter, CancellationToken cancellation)
    {
        Directory.CreateDirectory(model);
        var tensors = Tensors().ToList();
        var map = new Dictionary<string, string>(tensors.Count);
        foreach (var (shard, i) in tensors.Chunk((tensors.Count + Shards - 1) / Shards).Select((s, i) => (s, i)))
        {
            var name = ShardSplitter.FileName(i, Shards);
            TensorFiles.Write(Path.Combine(model, name), shard, block: null, cancellation);
            Array.ForEach(shard, t => map.Add(t.Name, name));
        }

        if (Shards > 1)
        {
            File.WriteAllText(Path.Combine(model, ShardIndex.FileName), ShardIndex.Text(map, tensors.Sum(t => t.Bytes), 0));
        }

        File.WriteAllText(Path.Combine(model, "config.json"), JsonFile.Text(new JsonObject
        {
            ["architectures"] = new JsonArray(Class), ["model_type"] = ModelType, ["torch_dtype"] = "bfloat16",
            ["hidden_size"] = Hidden, ["moe_intermediate_size"] = Width, ["num_hidden_layers"] = Layers, ["num_experts"] = Experts,
            ["tie_word_embeddings"] = false,
        }));
        AdapterGenerator.Generate($"bench/{Name}", Adapted(), 4, adapter, TensorType.F32, dora: false, sparse: false, cancellation);
    }

    private IEnumerable<(string Module, int Out, int In)> Adapted()
    {
        foreach (var expert in Enumerable.Range(0, 4).Select(e => $"layers.{Layers / 2}.mlp.experts.{e}"))
        {
            yield return ($"{expert}.gate_proj", Width, Hidden);
            yield return ($"{expert}.up_proj", Width, Hidden);
            yield return ($"{expert}.down_proj", Hidden, Width);
        }
    }
}
