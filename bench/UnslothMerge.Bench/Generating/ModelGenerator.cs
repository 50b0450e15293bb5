namespace UnslothMerge.Bench.Generating;

/// <summary>Makes a model directory as the Hub holds them: shards, index, configs, tokenizer.</summary>
internal static class ModelGenerator
{
    private const int BeginOfText = 0, EndOfText = 1;

    /// <summary>Makes a model and gives the bytes of all shards; sparse ones have no data.</summary>
    public static long Generate(
        ModelShape shape, string directory, TensorType type, long maxShardBytes, bool sparse, CancellationToken cancellation)
    {
        Directory.CreateDirectory(directory);
        var block = sparse ? null : new RandomBlock(type, 0.02, seed: 1);
        var tensors = shape.Tensors(type).ToList();
        var split = ShardSplitter.Split([.. tensors.Select(t => t.Bytes)], maxShardBytes);
        var weightMap = new Dictionary<string, string>();
        var bytes = 0L;
        for (var i = 0; i < split.Count; i++)
        {
            var name = ShardSplitter.FileName(i, split.Count);
            var shard = split[i].Select(j => tensors[j]).ToList();
            bytes += TensorFiles.Write(Path.Combine(directory, name), shard, block, cancellation);
            shard.ForEach(t => weightMap.Add(t.Name, name));
        }

        if (split.Count > 1)
        {
            var index = ShardIndex.Text(weightMap, tensors.Sum(t => t.Bytes), tensors.Sum(t => t.Shape.Count()));
            File.WriteAllText(Path.Combine(directory, ShardIndex.FileName), index);
        }

        Write(directory, "config.json", Config(shape, type));
        var generation = new JsonObject { ["bos_token_id"] = BeginOfText, ["eos_token_id"] = EndOfText, ["do_sample"] = true };
        Write(directory, "generation_config.json", generation);
        Write(directory, "tokenizer.json", Tokenizer());
        Write(directory, "tokenizer_config.json", new JsonObject
        {
            ["tokenizer_class"] = "PreTrainedTokenizerFast", ["bos_token"] = "<s>", ["eos_token"] = "</s>", ["model_max_length"] = 131072,
        });
        return bytes;
    }

    private static JsonObject Config(ModelShape shape, TensorType type) => new()
    {
        ["architectures"] = new JsonArray("LlamaForCausalLM"),
        ["model_type"] = "llama",
        ["bos_token_id"] = BeginOfText,
        ["eos_token_id"] = EndOfText,
        ["head_dim"] = shape.HeadSize,
        ["hidden_act"] = "silu",
        ["hidden_size"] = shape.Hidden,
        ["intermediate_size"] = shape.Intermediate,
        ["max_position_embeddings"] = 131072,
        ["num_attention_heads"] = shape.Heads,
        ["num_hidden_layers"] = shape.Layers,
        ["num_key_value_heads"] = shape.KeyValueHeads,
        ["rms_norm_eps"] = 1e-5,
        ["rope_scaling"] = new JsonObject
        {
            ["factor"] = shape.RopeFactor, ["low_freq_factor"] = 1.0, ["high_freq_factor"] = 4.0, 
            ["original_max_position_embeddings"] = 8192, ["rope_type"] = "llama3",
        },
        ["rope_theta"] = 500000.0,
        ["tie_word_embeddings"] = shape.Tied,
        ["torch_dtype"] = type.TorchName(),
        ["vocab_size"] = shape.Vocabulary,
    };

    // A few words are enough for a tokenizer that loads.
    private static JsonObject Tokenizer()
    {
        var vocabulary = new JsonObject { ["<s>"] = BeginOfText, ["</s>"] = EndOfText, ["<unk>"] = 2 };
        for (var i = vocabulary.Count; i < 64; i++)
        {
            vocabulary.Add(string.Create(CultureInfo.InvariantCulture, $"w{i}"), i);
        }

        return new JsonObject
        {
            ["version"] = "1.0",
            ["truncation"] = null,
            ["padding"] = null,
            ["added_tokens"] = new JsonArray([.. vocabulary.Take(3).Select(t => AddedToken(t.Key, t.Value!.GetValue<int>()))]),
            ["normalizer"] = null,
            ["pre_tokenizer"] = new JsonObject { ["type"] = "Whitespace" },
            ["post_processor"] = null,
            ["decoder"] = null,
            ["model"] = new JsonObject { ["type"] = "WordLevel", ["vocab"] = vocabulary, ["unk_token"] = "<unk>" },
        };
    }

    private static JsonObject AddedToken(string content, int id) => new()
    {
        ["id"] = id, ["content"] = content, ["single_word"] = false, ["lstrip"] = false, ["rstrip"] = false,
        ["normalized"] = false, ["special"] = true,
    };

    private static void Write(string directory, string name, JsonObject json) =>
        File.WriteAllText(Path.Combine(directory, name), JsonFile.Text(json));
}
