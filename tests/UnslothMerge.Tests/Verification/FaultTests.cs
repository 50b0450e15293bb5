namespace UnslothMerge.Tests.Verification;

/// <summary>What a merge can do wrongly, put into a saved model by hand, is found and named.</summary>
public sealed class FaultTests : IDisposable
{
    private const string Layer = "model.layers.0.";
    private const string Stack = $"{Layer}mlp.experts.gate_up_proj";

    private readonly TemporaryDirectory _directory = new();

    private string Output => _directory["out"];

    public void Dispose() => _directory.Dispose();

    [Theory]
    [InlineData("head-bert", "bert.encoder.layer.0.attention.self.key.weight", "bert.encoder.layer.0.attention.self.query.weight")]
    [InlineData("lora-all-linear", "model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.q_proj.weight")]
    [InlineData("lora-all-linear", "model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.up_proj.weight")]
    [InlineData("moe-qwen3-per-expert", $"{Layer}mlp.experts.1.gate_proj.weight", $"{Layer}mlp.experts.3.gate_proj.weight")]
    public void Deltas_of_two_tensors_exchanged(string name, string first, string second)
    {
        var plan = Save(name);
        Damage.SwapDeltas(Output, plan.Base.Path, first, second);
        Assert.Equal([first, second], Failure(plan, "Merged").Tensors.Order(StringComparer.Ordinal));
    }

    [Fact]
    public void Delta_in_a_tensor_that_no_adapter_changes()
    {
        var plan = Save("new-score-head");
        var delta = Damage.Read(Output, $"{Layer}self_attn.v_proj.weight").Zip(
            Damage.Read(plan.Base.Path, $"{Layer}self_attn.v_proj.weight"), (a, b) => a - b).ToArray();
        Damage.Delta(Output, plan.Base.Path, $"{Layer}self_attn.k_proj.weight", _ => delta);
        Assert.Equal([$"{Layer}self_attn.k_proj.weight"], Failure(plan, "Untouched").Tensors);
    }

    // Of a stack [4 experts, 12 rows of gate and 12 of up, 20].
    [Theory]
    [InlineData("expert 1 in expert 2")]
    [InlineData("gate in up")]
    public void Slices_of_a_stack_exchanged(string fault)
    {
        var plan = Save("moe-qwen3-fused-base");
        Func<int, int> source = fault == "gate in up"
            ? i => (i / 480 * 480) + ((i + 240) % 480)
            : i => (i / 480) switch { 1 => i + 480, 2 => i - 480, _ => i };
        Damage.Delta(Output, plan.Base.Path, Stack, d => [.. d.Select((_, i) => d[source(i)])]);
        Assert.Equal([Stack], Failure(plan, "Merged").Tensors);
    }

    [Fact]
    public void Layout_of_experts_confused()
    {
        var @case = new GoldenCase("moe-qwen3-grouped-marked");
        var plan = GoldenMerge.Save(@case, Output);
        var other = MergePlanner.Plan(plan.Base, plan.Steps, new PlanOptions { MoeLoraLayout = MoeLoraLayout.RankMajor });
        Directory.Delete(Output, recursive: true);
        TinyModel.Save(TinyModel.WritePlan(other), Output);
        Failure(plan, "Merged");
    }

    [Theory]
    [InlineData("tied-lora-head", "model.embed_tokens.weight")]
    [InlineData("ties-tokens-dict-differ-tied", "model.embed_tokens.weight")]
    public void Head_that_is_the_embedding_in_its_place(string name, string embedding)
    {
        var plan = Save(name);
        foreach (var source in new[] { Output, plan.Base.Path })
        {
            var values = Damage.Read(source, embedding);
            Damage.Values(Output, "lm_head.weight", _ => values);
            Assert.Equal(["lm_head.weight"], Failure(plan, "Merged").Tensors);
        }
    }

    [Theory]
    [InlineData("tied-lora-head", null)]
    [InlineData("ties-onevision-embed-saved", null)]
    [InlineData("ties-onevision-embed-saved", "text_config")]
    public void Head_untied_but_the_config_says_tied(string name, string? level)
    {
        var plan = Save(name);
        Damage.Json(Output, "config.json", json => (level is null ? json : json[level]!)["tie_word_embeddings"] = true);
        Assert.Contains("tie_word_embeddings", Failure(plan, "Architecture").Detail, StringComparison.Ordinal);
        Failure(plan, "Config");
    }

    [Fact]
    public void Head_tied_but_the_config_says_untied()
    {
        var plan = Save("tied-lora-ensure");
        Damage.Json(Output, "config.json", json => json["tie_word_embeddings"] = false);
        Failure(plan, "Architecture");
    }

    [Fact]
    public void Head_lost()
    {
        var plan = Save("tied-lora-head");
        Damage.Rewrite(Output, t => t.Name == "lm_head.weight" ? null : t);
        Assert.Equal(["lm_head.weight"], Failure(plan, "Names").Tensors);
    }

    [Theory]
    [InlineData("architectures", """["BertForPreTraining"]""")]
    [InlineData("id2label", """{"0": "A", "1": "B", "2": "C", "3": "D", "4": "E", "5": "F", "6": "G"}""")]
    [InlineData("num_labels", "7")]
    public void Config_of_another_head(string key, string value)
    {
        var plan = Save("head-bert");
        Damage.Json(Output, "config.json", json => json[key] = JsonNode.Parse(value));
        Assert.Contains(key, Failure(plan, "Architecture").Detail, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("cls.predictions.bias")]
    [InlineData("lm_head.bias")]
    [InlineData("model.norm.copy")]
    public void Tensor_left_over(string name)
    {
        var plan = Save("head-bert");
        Append(name, "classifier.bias");
        Assert.Equal([name], Failure(plan, "Names").Tensors);
    }

    [Theory]
    [InlineData("head-bert", "bert.embeddings.LayerNorm.weight", "embeddings.LayerNorm.weight")]
    [InlineData("lora-all-linear", "model.norm.weight", "_orig_mod.model.norm.weight")]
    [InlineData("lora-all-linear", "model.norm.weight", "model._fsdp_wrapped_module.norm.weight")]
    public void Tensor_by_another_name(string @case, string name, string other)
    {
        var plan = Save(@case);
        Damage.Rewrite(Output, t => t.Name == name ? t with { Name = other } : t);
        Assert.Equal([name, other], Failure(plan, "Names").Tensors);
    }

    [Fact]
    public void Tensor_twice_under_two_names()
    {
        var plan = Save("vlm-llava-old-names");
        var name = plan.Tensors.First(t => t.Name.StartsWith("language_model.model.", StringComparison.Ordinal)).Name;
        var other = $"model.language_model.{name["language_model.model.".Length..]}";
        Append(other, name);
        Assert.Equal([other], Failure(plan, "Names").Tensors);
    }

    [Theory]
    [InlineData("")]
    [InlineData("text_config")]
    [InlineData("text_config.inner")]
    public void Quantization_left_at_some_depth(string path)
    {
        var plan = Save("nested-kimi-k25-experts-v5-16bit");
        Damage.Json(Output, "config.json", json =>
        {
            var part = json;
            foreach (var key in path.Split('.', StringSplitOptions.RemoveEmptyEntries))
            {
                part = (JsonObject)(part[key] ??= new JsonObject());
            }

            part["quantization_config"] = plan.Base.Config.Quantization!.DeepClone();
        });
        var said = Failure(plan, "Config").Detail;
        Assert.Contains($"{path}{(path.Length > 0 ? "." : "")}quantization_config", said, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Quantization_missing_at_its_level(bool onTop)
    {
        var @case = new GoldenCase("nested-kimi-k25-experts-v5-16bit");
        var plan = TinyModel.Plan(@case.Base, [.. @case.Adapters.Select(a => a.Path)]);
        TinyModel.Save(UnslothMerge.Planning.WritePlan.Create(plan, plan.Tensors,
            new WriteOptions(null, 5_000_000_000) { Quantization = new BaseFormatRequest() }), Output);
        Damage.Json(Output, "config.json", json =>
        {
            var quantization = json["text_config"]!["quantization_config"]!.DeepClone();
            ((JsonObject)json["text_config"]!).Remove("quantization_config");
            if (onTop)
            {
                json["quantization_config"] = quantization;
            }
        });
        var failed = ModelVerifier.Verify(plan, plan.Tensors, Output, new VerificationOptions(true, 2), null,
            TestContext.Current.CancellationToken).Where(r => r.Passed == false).ToList();
        Assert.Contains(failed, r => r.Check == (onTop ? "Config" : "Names"));
    }

    [Fact]
    public void Carried_file_changed()
    {
        var @base = TinyModel.Base(_directory["base"], TinyTensor.Random("model.a.weight", [4, 4], 1));
        File.WriteAllText(Path.Combine(@base, "tokenizer_config.json"), """{"eos_token": "<a>"}""");
        File.WriteAllText(Path.Combine(@base, "generation_config.json"), """{"top_k": 5, "eos_token_id": 1}""");
        var plan = TinyModel.Plan(@base);
        TinyModel.Save(TinyModel.WritePlan(plan), Output);
        Damage.Json(Output, "generation_config.json", json => json["eos_token_id"] = 2);
        Assert.True(Verify(plan).Single(r => r.Check == "Carried").Passed);
        Damage.Json(Output, "generation_config.json", json => json["top_k"] = 6);
        Assert.Contains("generation_config.json is not that of", Failure(plan, "Carried").Detail, StringComparison.Ordinal);
    }

    private MergePlan Save(string name) => GoldenMerge.Save(new GoldenCase(name), Output);

    private void Append(string name, string copied)
    {
        Damage.Rewrite(Output, t => t, all => all.Single(t => t.Name == copied) with { Name = name });
    }

    private IReadOnlyList<VerificationResult> Verify(MergePlan plan) =>
        ModelVerifier.Verify(plan, plan.Tensors, Output, new VerificationOptions(true, 2), null, TestContext.Current.CancellationToken);

    private VerificationResult Failure(MergePlan plan, string check)
    {
        var result = Verify(plan).Single(r => r.Check == check);
        Assert.False(result.Passed, result.Detail);
        return result;
    }
}
