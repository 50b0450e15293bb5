namespace UnslothMerge.Tests.Models;

public sealed class CheckpointNamesTests
{
    /// <summary>However many tensors a model has, few of them are compared.</summary>
    [Fact]
    public void Names_of_every_form_are_among_the_nearest()
    {
        var config = new ModelConfig(new JsonObject { ["model_type"] = "llama" });
        string[] parts = ["mlp.up_proj", "mlp.down_proj", "self_attn.q_proj"];
        var names = Enumerable.Range(0, 20_000).SelectMany(i => parts.Select(p => $"model.layers.{i}.{p}.weight"));
        var nearest = new CheckpointNames([.. names], config).Nearest("model.layers.0.self_attn.qproj.weight");
        Assert.Equal("model.layers.0.self_attn.q_proj.weight", nearest[0]);
        Assert.Equal(3, nearest.Count);
    }

    [Theory]
    [InlineData("llava", "language_model.model.layers.0.q.weight", "model.language_model.layers.0.q.weight")]
    [InlineData("llava", "language_model.model.layers.0.q.weight", "language_model.model.layers.0.q.weight")]
    [InlineData("llava", "model.language_model.layers.0.q.weight", "language_model.model.layers.0.q.weight")]
    [InlineData("llava", "language_model.lm_head.weight", "lm_head.weight")]
    [InlineData("llava", "lm_head.weight", "language_model.lm_head.weight")]
    [InlineData("llava_next", "image_newline", "model.image_newline")]
    [InlineData("gemma3", "vision_tower.vision_model.encoder.layers.0.fc1.weight", "model.vision_tower.encoder.layers.0.fc1.weight")]
    [InlineData("gemma3", "model.vision_tower.encoder.layers.0.fc1.weight", "vision_tower.vision_model.encoder.layers.0.fc1.weight")]
    [InlineData("gemma3", "language_model.model.layers.0.q.weight", "model.layers.0.q.weight")]
    [InlineData("mistral3", "multi_modal_projector.linear_1.weight", "model.multi_modal_projector.linear_1.weight")]
    [InlineData("video_llava", "video_tower.vision_model.encoder.layers.0.fc1.weight", "model.video_tower.encoder.layers.0.fc1.weight")]
    [InlineData("mllama", "vision_model.transformer.layers.0.fc1.weight", "model.vision_model.transformer.layers.0.fc1.weight")]
    [InlineData("mllama", "language_model.model.layers.3.cross_attn.q_proj.weight", "model.layers.3.cross_attn.q_proj.weight")]
    [InlineData("qwen2_vl", "model.layers.0.q.weight", "model.language_model.layers.0.q.weight")]
    [InlineData("qwen2_5_vl", "visual.blocks.0.attn.qkv.weight", "model.visual.blocks.0.attn.qkv.weight")]
    [InlineData("qwen2_5_vl", "model.language_model.layers.0.q.weight", "model.layers.0.q.weight")]
    [InlineData("qwen2_5_vl", "model.visual.merger.mlp.0.weight", "visual.merger.mlp.0.weight")]
    [InlineData("qwen2_vl", "model.layers.0.q.weight", "layers.0.q.weight")]
    [InlineData("colqwen2", "vlm.model.visual.blocks.0.weight", "vlm.visual.blocks.0.weight")]
    [InlineData("colqwen2", "vlm.model.layers.0.q.weight", "vlm.language_model.layers.0.q.weight")]
    [InlineData("colpali", "vlm.language_model.model.layers.0.q.weight", "vlm.model.language_model.layers.0.q.weight")]
    [InlineData("shieldgemma2", "model.language_model.model.layers.0.q.weight", "model.model.language_model.layers.0.q.weight")]
    [InlineData("emu3", "text_model.model.layers.0.q.weight", "model.text_model.layers.0.q.weight")]
    [InlineData("qwen3_5", "model.language_model.layers.0.q.weight", "model.layers.0.q.weight")]
    [InlineData("gemma3n", "model.language_model.layers.0.q.weight", "model.layers.0.q.weight")]
    [InlineData("llama4", "language_model.model.layers.0.q.weight", "model.layers.0.q.weight")]
    [InlineData("mixtral", "model.layers.0.block_sparse_moe.gate.weight", "model.layers.0.mlp.gate.weight")]
    [InlineData("mixtral", "model.layers.0.mlp.gate.weight", "model.layers.0.block_sparse_moe.gate.weight")]
    [InlineData("phimoe", "model.layers.0.block_sparse_moe.gate.weight", "model.layers.0.mlp.router.weight")]
    [InlineData("ernie4_5_moe", "model.layers.0.mlp.moe_statics.e_score_correction_bias",
        "model.layers.0.mlp.gate.moe_statics.e_score_correction_bias")]
    [InlineData("nemotron_h", "backbone.layers.0.mixer.in_proj.weight", "model.layers.0.mixer.in_proj.weight")]
    [InlineData("deepseek_v4", "layers.0.attn.wq_a.weight", "model.layers.0.self_attn.q_a_proj.weight")]
    [InlineData("exaone", "transformer.h.0.mlp.c_fc_0.weight", "model.layers.0.mlp.gate_proj.weight")]
    [InlineData("kimi_k25", "vision_tower.encoder.blocks.0.mlp.fc0.weight", "model.vision_tower.layers.0.mlp.fc1.weight")]
    [InlineData("gpt_neox", "embed_out.weight", "lm_head.weight")]
    [InlineData("vit", "vit.encoder.layer.0.attention.attention.query.weight", "vit.layers.0.attention.q_proj.weight")]
    [InlineData("vit", "vit.encoder.layer.0.output.dense.weight", "vit.layers.0.mlp.fc2.weight")]
    [InlineData("vit", "vit.encoder.layer.0.attention.output.dense.bias", "layers.0.attention.o_proj.bias")]
    [InlineData("bert", "bert.encoder.layer.0.output.LayerNorm.gamma", "encoder.layer.0.output.LayerNorm.weight")]
    [InlineData("siglip_vision_model", "vision_model.encoder.layers.0.fc1.weight", "encoder.layers.0.fc1.weight")]
    [InlineData("llama", "model.layers.0.q.weight", "layers.0.q.weight")]
    [InlineData("gpt2", "h.0.attn.c_attn.weight", "transformer.h.0.attn.c_attn.weight")]
    [InlineData("llama", "language_model.model.layers.0.q.weight", "model.language_model.layers.0.q.weight")]
    [InlineData("bert", "encoder.layers.0.fc1.weight", "text_model.encoder.layers.0.fc1.weight")]
    [InlineData("custom", "vlm.model.layers.0.q.weight", "module.language_model.model.layers.0.q.weight")]
    public void Every_spelling_finds_the_tensor(string modelType, string stored, string asked)
    {
        Assert.Equal(stored, Names(modelType, stored, "other.weight").Find(asked));
        Assert.Null(Names(modelType, "other.weight").Find(asked));
    }

    [Theory]
    [InlineData("qwen3_5", "mtp.layers.0.q.weight", "model.layers.0.q.weight")]
    [InlineData("custom", "model.visual.blocks.0.q.weight", "model.blocks.0.q.weight")]
    [InlineData("qwen2", "model.layers.0.mlp.gate.weight", "model.layers.0.block_sparse_moe.gate.weight")]
    [InlineData("llama", "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_projection.weight")]
    [InlineData("clip", "vision_model.encoder.layers.0.fc1.weight", "encoder.layers.0.fc1.weight")]
    public void A_rule_of_another_model_does_not_hold(string modelType, string stored, string asked) =>
        Assert.Null(Names(modelType, stored).Find(asked));

    [Theory]
    [InlineData("gemma3", "model.language_model.norm.weight", "model.language_model.norm.weight", "language_model.model.norm.weight")]
    [InlineData("dual", "layers.0.fc1.weight", "model.layers.0.fc1.weight", "backbone.layers.0.fc1.weight")]
    public void A_name_that_fits_two_tensors_is_an_error(string modelType, string asked, params string[] stored)
    {
        var error = Assert.Throws<MergeException>(() => Names(modelType, stored).Find(asked));
        Assert.All(stored, name => Assert.Contains(name, error.Message, StringComparison.Ordinal));
    }

    [Fact]
    public void The_types_of_inner_models_bring_their_rules()
    {
        var config = new ModelConfig(new JsonObject { ["model_type"] = "llava",
            ["text_config"] = new JsonObject { ["model_type"] = "mixtral" } });
        var names = new CheckpointNames(["language_model.model.layers.0.block_sparse_moe.experts.3.w1.weight"], config);
        Assert.Equal([new ExpertTensor(3, "w1", "language_model.model.layers.0.block_sparse_moe.experts.3.w1.weight")],
            names.Experts("model.language_model.layers.0.mlp.experts"));
    }

    /// <summary>kimi_k25's vision blocks: fc0 and fc1 on disk are fc1 and fc2 at run time.</summary>
    [Theory]
    [InlineData(new[] { "model.vision_tower.layers.0.mlp.fc1.weight", "model.vision_tower.layers.0.mlp.fc2.weight" }, new[] { 0, 1 })]
    [InlineData(new[] { "vision_tower.encoder.blocks.0.mlp.fc0.weight", "vision_tower.encoder.blocks.0.mlp.fc1.weight" }, new[] { 0, 1 })]
    public void An_adapter_says_which_of_two_meanings_a_name_has(string[] asked, int[] found)
    {
        string[] stored = ["vision_tower.encoder.blocks.0.mlp.fc0.weight", "vision_tower.encoder.blocks.0.mlp.fc1.weight"];
        var names = Names("kimi_k25", stored);
        names.Expect(asked);
        Assert.Equal(found.Select(i => stored[i]), asked.Select(names.Find));
    }

    /// <summary>Names made from every rule that transformers has, with numbers that rules name and with others.</summary>
    [Fact]
    public void Forms_give_what_rules_give()
    {
        var types = TransformersData.Find("auto", "base")!.AsObject().Select(t => t.Key).ToList();
        Assert.True(types.Count > 300);
        foreach (var type in types)
        {
            string[] stored = [.. NamesOf(type)];
            var names = Names(type, stored);
            Assert.All(stored, n => Assert.Equal(names.Applied(n), names.Way(n)));
        }
    }

    [Theory]
    [InlineData("qwen3_moe", "mlp.experts.{0}.gate_proj", "mlp.experts.{0}.up_proj", "mlp.experts.{0}.down_proj", "mlp.gate")]
    [InlineData("mixtral", "block_sparse_moe.experts.{0}.w1", "block_sparse_moe.experts.{0}.w2", "block_sparse_moe.experts.{0}.w3")]
    [InlineData("phi3", "self_attn.qkv_proj", "mlp.gate_up_proj", "mlp.down_proj")]
    [InlineData("dory", "mixer.in_proj", "attn_alpha")]
    [InlineData("custom", "experts.gate_up_projs.{0}", "experts.down_projs.{0}", "{0}.5", "007.{0}.q")]
    public void Every_name_on_the_way_finds_what_the_rules_lead_to_it(string modelType, params string[] modules)
    {
        string[] stored =
        [
            .. from layer in Enumerable.Range(0, 12)
               from expert in Enumerable.Range(9, 3)
               from module in modules
               let name = string.Format(CultureInfo.InvariantCulture, module, expert)
               select $"model.layers.{layer}.{name}.weight",
            "model.embed_tokens.weight", "lm_head.weight", "3.weight",
        ];
        stored = [.. stored.Distinct()];
        var names = Names(modelType, stored);
        var ways = stored.SelectMany(names.Applied).Distinct().ToLookup(w => w.Alias, w => w.Origin);
        Assert.All(ways, w => Assert.Equal(w, names.Named(w.Key)));
        Assert.Empty(names.Named("model.layers.99.mlp.gate.weight"));
    }

    private static IEnumerable<string> NamesOf(string modelType)
    {
        var patterns = (TransformersData.Find("rules", modelType) as JsonArray ?? []).SelectMany(r => r!.AsObject().Strings("from"));
        foreach (var pattern in patterns.Prepend("norm"))
        {
            foreach (var number in (string[])["0", "1", "12", "128", "05"])
            {
                var name = Regex.Replace(pattern, @"\(\?[^()]*(\([^()]*\))*\)|[\^$]", "")
                    .Replace(@"(\d+)", number, StringComparison.Ordinal).Replace(@"\d+", number, StringComparison.Ordinal)
                    .Replace("*", number, StringComparison.Ordinal).Replace(@"\.", ".", StringComparison.Ordinal).Trim('.');
                yield return $"{name}.weight";
                yield return $"model.layers.{number}.{name}.bias";
                yield return $"vision_tower.{name}.{number}.weight";
                yield return $"{name}.{number}";
            }
        }
    }

    private static CheckpointNames Names(string modelType, params string[] stored) =>
        new(stored, new ModelConfig(new JsonObject { ["model_type"] = modelType }));
}
