namespace UnslothMerge.Models;

/// <summary>What the merge needs to know of a model's config.json. Immutable: every change gives a new config.</summary>
internal sealed class ModelConfig
{
    private static readonly string[] LayerCountKeys = ["num_hidden_layers", "n_layer", "num_layers", "n_layers"];
    private static readonly (string Key, int Harmless)[] PositionalKeys =
    [
        ("mlp_only_layers", 0), ("cross_attention_layers", 0), ("moe_layers", 0), ("first_k_dense_replace", 0), ("decoder_sparse_step", 1),
        ("sliding_window_pattern", 1), ("attn_layer_period", 1), ("expert_layer_period", 1),
    ];

    private static readonly string[] TextKeys = ["text_config", "llm_config", "language_config"];
    private static readonly string[] MtpKeys = ["mtp_num_hidden_layers", "num_nextn_predict_layers"];
    // MLX has both; its own comes first for the modules that it names.
    private static readonly string[] QuantizationKeys = ["quantization_config", "quantization"];
    private static readonly string[] DTypeKeys = ["dtype", "torch_dtype"];

    private readonly JsonObject _json;
    private readonly JsonObject? _quantizationBeside;

    /// <summary>Wraps the content of a config.json, and how the model is quantized, where a file beside it says so.</summary>
    public ModelConfig(JsonObject json, JsonObject? quantizationBeside = null) => (_json, _quantizationBeside) = (json, quantizationBeside);

    /// <summary>Reads the config of a directory, with ModelOpt's <c>hf_quant_config.json</c>.</summary>
    public static ModelConfig Read(string directory)
    {
        var path = Path.Combine(directory, "config.json");
        var json = JsonFile.Read(path, MergeError.InvalidModel);
        RequireTypes(json, path);
        var beside = Path.Combine(directory, "hf_quant_config.json");
        var quantization = File.Exists(beside) ? JsonFile.Read(beside, MergeError.InvalidModel)["quantization"] as JsonObject : null;
        return new ModelConfig(json, quantization?.String("quant_algo") is null ? null : quantization);
    }

    // What is of another type would count as absent.
    private static void RequireTypes(JsonObject json, string path)
    {
        foreach (var part in Parts(json))
        {
            Require("tie_word_embeddings", v => v.GetValueKind() is JsonValueKind.True or JsonValueKind.False, "true or false");
            Require("quantization_config", v => v is JsonObject, "an object");

            void Require(string key, Func<JsonNode, bool> isRight, string expected)
            {
                if (part[key] is { } value && !isRight(value))
                {
                    throw new MergeException(
                        MergeError.InvalidModel, $"'{path}': {key} is {value.ToJsonString()}, which is not {expected}.", path,
                        $"Write {key} as {expected}, or download the config again.");
                }
            }
        }
    }

    /// <summary>The class names, for example <c>LlamaForCausalLM</c>.</summary>
    public IReadOnlyList<string> Architectures => _json.Strings("architectures");

    /// <summary>The model type, for example <c>llama</c>.</summary>
    public string? ModelType => _json.String("model_type");

    /// <summary>The model types of the model and of the models inside it: <c>gemma3</c>, <c>gemma3_text</c>,
    /// <c>siglip_vision_model</c>.</summary>
    public IReadOnlySet<string> ModelTypes => Types(_json).ToHashSet(StringComparer.Ordinal);

    /// <summary>The models inside the model: the key of their config, and their type.</summary>
    public IEnumerable<(string Part, string Type)> SubModels => Subs(_json);

    /// <summary>The outputs of a language model's query, key and value; null where the config does not say.</summary>
    public IReadOnlyList<long?> QueryKeyValue
    {
        get
        {
            var text = Text ?? _json;
            var heads = text.Number("num_attention_heads");
            var size = text.Number("head_dim") ?? text.Number("hidden_size") / heads;
            var keys = (text.Number("num_key_value_heads") ?? heads) * size;
            return [(long?)(heads * size), (long?)keys, (long?)keys];
        }
    }

    /// <summary>The number of a language model's heads, of its keys or of its queries.</summary>
    public long Heads(bool ofKeys)
    {
        var text = Text ?? _json;
        return ((ofKeys ? text.Number("num_key_value_heads") : null) ?? text.Number("num_attention_heads")) is >= 1 and < int.MaxValue
            and var heads ? (long)heads : throw new MergeException(
                MergeError.InvalidModel, "config.json says no num_attention_heads from 1 on, by which rows are ordered.", "config.json");
    }

    /// <summary>The attention heads of a model inside the model, or of the model if it has none of that key; null if keys have others than
    /// queries, or the config does not say.</summary>
    public long? HeadsOf(string? part)
    {
        var config = part is null ? _json : _json[part] as JsonObject ?? _json;
        var heads = config.Number("num_attention_heads") ?? config.Number("vt_num_attention_heads");
        return (long?)((config.Number("num_key_value_heads") ?? heads) == heads ? heads : null);
    }

    /// <summary>True if transformers itself has the model's code: the model type is stated, and the repository brings no code of its
    /// own.</summary>
    public bool IsOfTransformers => ModelType is not (null or "" or "custom") && _json["auto_map"] is null;

    /// <summary>The name or path of the model it was saved from, if the file says.</summary>
    public string? NameOrPath => _json.String("_name_or_path");

    /// <summary>
    /// True if the output head shares the input embedding: readers differ in which level of a nested config they believe, so one that
    /// says so
    /// is enough. Where none says anything, it is the model type's default.
    /// </summary>
    public bool TiesWordEmbeddings
    {
        get
        {
            return TieLevels.Any(l => l is not null) ? SaysTied
                : ModelType is not { } type || TransformersData.Find("tie_default", type) is not { } known ? true
                : known is JsonArray both ? both.Any(b => (bool)b!)
                : (bool)known;
        }
    }

    /// <summary>True if a level says that the output head shares the input embedding.</summary>
    public bool SaysTied => TieLevels.Contains(true);

    private bool?[] TieLevels => [_json.Bool("tie_word_embeddings"), Text?.Bool("tie_word_embeddings")];

    /// <summary>The dtype that the config names.</summary>
    public TensorType? DType => TensorTypes.FromTorchName(_json.String("dtype") ?? _json.String("torch_dtype"));

    /// <summary>How the base is quantized, at whatever level the config says it; null if it is not.</summary>
    public JsonObject? Quantization =>
        Parts(_json).SelectMany(p => QuantizationKeys.Select(k => p[k])).OfType<JsonObject>().FirstOrDefault(IsQuantization)
            ?? _quantizationBeside;

    private JsonObject? Text => TextOf(_json);

    /// <summary>The settings that tell layers apart by their position, and so do not survive when layers are repeated.</summary>
    public IReadOnlyList<string> PositionalSettings =>
    [
        .. new[] { _json, Text }.OfType<JsonObject>().SelectMany(part => PositionalKeys.Where(k =>
            !(k.Key == "sliding_window_pattern" && part.ContainsKey("layer_types"))
                && (part[k.Key] is JsonArray { Count: > 0 } || part.Number(k.Key) > k.Harmless))).Select(k => k.Key).Distinct(),
    ];

    /// <summary>A copy of the JSON.</summary>
    public JsonObject ToJson() => (JsonObject)_json.DeepClone();

    /// <summary>The same config without its quantization.</summary>
    public ModelConfig WithoutQuantization() => new(Edit(json =>
    {
        foreach (var part in Parts(json).Where(p => QuantizationKeys.Any(k => p[k] is JsonObject q && IsQuantization(q))).ToList())
        {
            foreach (var key in QuantizationKeys.Concat(["_pre_quantization_dtype", "expert_dtype"]))
            {
                part.Remove(key);
            }
        }
    })._json);

    /// <summary>The same config with a quantization.</summary>
    public ModelConfig WithQuantization(JsonObject quantization) =>
        WithoutQuantization().Edit(json => json["quantization_config"] = quantization);

    /// <summary>The same config with the tie between embedding and head undone.</summary>
    public ModelConfig Untied() => Edit(json =>
    {
        json["tie_word_embeddings"] = false;

        // Without a tie T5 1.0 is taken for T5 1.1, which does not scale.
        if (json.String("model_type") == "t5")
        {
            json["scale_decoder_outputs"] = true;
        }

        if (TextOf(json) is { } text)
        {
            text["tie_word_embeddings"] = false;
        }
    });

    /// <summary>The same config for another vocabulary size, wherever it states one.</summary>
    public ModelConfig WithVocabulary(long size) => Edit(json =>
    {
        var text = TextOf(json) ?? json;
        var old = text.Number("vocab_size") ?? json.Number("vocab_size");
        foreach (var part in Parts(json).Where(p => p == text || (old is not null && p.Number("vocab_size") == old)))
        {
            part["vocab_size"] = size;
        }
    });

    /// <summary>The same config for a model whose layers are copies of others, wherever it states their number or lists one value for each.
    /// <paramref name="layers"/> is the number of layers before.</summary>
    public ModelConfig WithLayers(IReadOnlyList<int> sources, int layers) => Edit(json =>
    {
        foreach (var part in new[] { json, TextOf(json) }.OfType<JsonObject>())
        {
            foreach (var key in LayerCountKeys.Where(part.ContainsKey))
            {
                part[key] = sources.Count;
            }

            foreach (var (key, list) in part.Where(p => p.Value is JsonArray a && a.Count == layers && layers > 1)
                .Select(p => (p.Key, (JsonArray)p.Value!)).ToList())
            {
                part[key] = new JsonArray([.. sources.Select(s => list[s]?.DeepClone())]);
            }
        }
    });

    /// <summary>The same config for another task: the class, and the labels, unless there are as many already.</summary>
    public ModelConfig ForTask(string architecture, long labels) => Edit(json =>
    {
        json["architectures"] = new JsonArray(architecture);
        if (json.ContainsKey("num_labels"))
        {
            json["num_labels"] = labels;
        }

        if ((json["id2label"] as JsonObject)?.Count != labels)
        {
            json["id2label"] = new JsonObject([.. Range(labels).Select(i => KeyValuePair.Create($"{i}", (JsonNode?)$"LABEL_{i}"))]);
            json["label2id"] = new JsonObject([.. Range(labels).Select(i => KeyValuePair.Create($"LABEL_{i}", (JsonNode?)i))]);
        }

        static IEnumerable<int> Range(long count) => Enumerable.Range(0, checked((int)count));
    });

    /// <summary>The same config for a model with a head for multi-token prediction: its layers, under the key that is there.</summary>
    public ModelConfig WithMtpLayers(int layers) => Edit(json =>
    {
        var (part, key) = Parts(json).SelectMany(p => MtpKeys.Where(p.ContainsKey).Select(k => (p, k)))
            .FirstOrDefault((TextOf(json) ?? json, MtpKeys[0]));
        part[key] = layers;
    });

    /// <summary>The same config for another dtype, under the key that it already uses (<c>dtype</c>, or <c>torch_dtype</c> before
    /// transformers 5).</summary>
    public ModelConfig WithDType(TensorType type) => Edit(json =>
    {
        foreach (var part in Parts(json))
        {
            foreach (var key in DTypeKeys.Where(part.ContainsKey))
            {
                part[key] = type.TorchName();
            }
        }

        if (!DTypeKeys.Any(json.ContainsKey))
        {
            json["dtype"] = type.TorchName();
        }
    });

    private static IEnumerable<(string Part, string Type)> Subs(JsonObject config) =>
        config.Where(p => p.Value is JsonObject)
            .SelectMany(p => Subs((JsonObject)p.Value!).Prepend((Part: p.Key, Type: ((JsonObject)p.Value!).String("model_type")!)))
            .Where(m => m.Type is not null);

    private static IEnumerable<string> Types(JsonObject config) =>
        config.Select(p => p.Value).OfType<JsonObject>().SelectMany(Types).Concat(config.String("model_type") is { } type ? [type] : []);

    // The config of the language model inside a larger one: transformers' name, InternVL's, DeepSeek's; Omni models have it two levels
    // down.
    private static JsonObject? TextOf(JsonObject config) =>
        TextKeys.Select(k => config[k]).OfType<JsonObject>().FirstOrDefault()
            ?? (config["thinker_config"] is JsonObject thinker ? TextOf(thinker) : null);

    // The config and those of the models inside it; how weights are quantized is none.
    private static List<JsonObject> Parts(JsonObject config)
    {
        List<JsonObject> parts = [config];
        foreach (var (key, value) in config)
        {
            if (value is JsonObject part && !QuantizationKeys.Contains(key))
            {
                parts.AddRange(Parts(part));
            }
        }

        return parts;
    }

    private ModelConfig Edit(Action<JsonObject> edit)
    {
        var copy = ToJson();
        edit(copy);
        return new ModelConfig(copy, _quantizationBeside);
    }

    // A quantization_config is always one; what else is called quantization may be anything.
    private static bool IsQuantization(JsonObject json) =>
        json.Parent is JsonObject parent && (json == parent["quantization_config"] || json.ContainsKey("bits"));
}
