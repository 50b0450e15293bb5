namespace UnslothMerge.Tests.Lora;

/// <summary>LoRA of experts as Unsloth arranges it, and of pooled inputs. The base is zero, so the result is the delta.</summary>
public sealed class ExpertAdapterTests
{
    private const int E = 3;
    private const int R = 2;
    private const int Outputs = 8;
    private const int Inputs = 5;
    private const string Module = "model.layers.0.mlp.experts";
    private const string Fused = Module + ".gate_up_proj";

    private readonly Random _random = new(1);

    /// <summary>Unsloth's markers, and its own rule where there are none; gate_up_proj of three experts, R columns each.</summary>
    [Theory]
    [InlineData("qwen3_moe", "{}", false, null)]
    [InlineData("qwen3_moe", """{"auto_mapping": {"unsloth_fixed": true}}""", true, "rule for qwen3_moe")]
    [InlineData("qwen3_5_moe_text", """{"auto_mapping": {"unsloth_fixed": true}}""", true, "rule for qwen3_5_moe")]
    [InlineData("qwen2_moe", """{"auto_mapping": {"unsloth_fixed": true}}""", false, "rule for this model type")]
    [InlineData("qwen3_moe", """{"peft_version": "0.21.2", "auto_mapping": {"unsloth_fixed": true}}""", false, "before PEFT 0.21")]
    [InlineData("qwen3_moe", """{"auto_mapping": {"unsloth_fixed": true, "lora_B_layout": "rank_major"}}""", false, null)]
    [InlineData("qwen2_moe", """{"lora_B_layout": "grouped_by_expert"}""", true, null)]
    [InlineData("qwen2_moe", """{"unsloth_fused_expert_lora": 7}""", false, null)]
    [InlineData("qwen2_moe", """{"unsloth_fused_expert_lora": {"parameters": {"mlp.experts.gate_up_proj": "x"}}}""", false, null)]
    [InlineData("qwen2_moe", """
        {"lora_B_layout": "rank_major",
            "unsloth_fused_expert_lora": {"parameters": {"mlp.experts.gate_up_proj": {"lora_B_layout": "grouped_by_expert"}}}}
        """, true, null)]
    public void Unsloth_says_how_it_arranges_experts(string modelType, string config, bool grouped, string? warning)
    {
        var (a, b) = (_random.Numbers(E * R, Inputs), _random.Numbers(Outputs, R * E));
        var json = JsonNode.Parse(config)!.AsObject();
        (json["r"], json["target_parameters"]) = (R, new JsonArray("mlp.experts.gate_up_proj"));
        var merge = Base(modelType)
            .With(json.ToJsonString(), TinyTensor.Lora(Module, a, b));
        Numbers.Near(
            Delta((e, k, i) => a[(e * R) + k, i], (e, o, k) => b[o, grouped ? (e * R) + k : (k * E) + e]), merge.Merge()[Fused]);
        Assert.Equal(warning is null ? [] : [warning],
            merge.Planned!.Warnings.Select(w => w.Text.Contains(warning ?? "experts", StringComparison.Ordinal) ? warning : w.Text));

        // The test of a saved model reads the markers by itself.
        merge.Verify();
    }

    [Theory]
    [InlineData("""{"lora_B_layout": "grouped"}""", true)]
    [InlineData("""{"unsloth_fused_expert_lora": {"parameters": {"w1": {"lora_B_layout": "grouped"}}}}""", false)]
    public void Only_two_parameters_can_be_grouped(string config, bool merges)
    {
        var (a, b) = (_random.Numbers(E * R, Inputs), _random.Numbers(Outputs, R * E));
        var json = JsonNode.Parse(config)!.AsObject();
        (json["r"], json["target_parameters"]) = (R, new JsonArray("mlp.experts.w1"));
        var merge = new TinyModel("""{"model_type": "custom"}""", (Module + ".w1", Numbers.Zeros(E, Outputs, Inputs)))
            .With(json.ToJsonString(), TinyTensor.Lora(Module, a, b));
        if (merges)
        {
            Numbers.Near(Delta((e, k, i) => a[(e * R) + k, i], (e, o, k) => b[o, (k * E) + e]), merge.Merge()[Module + ".w1"]);
        }
        else
        {
            Assert.Contains("only gate_up_proj and down_proj can be grouped", merge.Refused().Message, StringComparison.Ordinal);
        }
    }

    /// <summary>QALoRA: A [rank, in/g] reads the mean of each group of inputs, times the number of groups.</summary>
    [Fact]
    public void Pooled_inputs_share_a_column_of_A()
    {
        const int size = 4, inputs = 12;
        var (a, b) = (_random.Numbers(R, inputs / size), _random.Numbers(Outputs, R));
        var merge = new TinyModel(("l.weight", Numbers.Zeros(Outputs, inputs)))
            .With($$"""{"r": {{R}}, "use_qalora": true, "qalora_group_size": {{size}}}""", TinyTensor.Lora("l", a, b));
        Numbers.Near(
            [.. from o in Enumerable.Range(0, Outputs)
                from i in Enumerable.Range(0, inputs)
                select 1.0 / R * inputs / size / size * Enumerable.Range(0, R).Sum(k => b[o, k] * a[k, i / size])],
            merge.Merge()["l.weight"]);
    }

    private static TinyModel Base(string modelType) =>
        new($$"""{"model_type": "{{modelType}}"}""", (Fused, Numbers.Zeros(E, Outputs, Inputs)));

    // alpha is 1.
    private static double[] Delta(Func<int, int, int, double> a, Func<int, int, int, double> b) =>
        [.. from e in Enumerable.Range(0, E)
            from o in Enumerable.Range(0, Outputs)
            from i in Enumerable.Range(0, Inputs)
            select Enumerable.Range(0, R).Sum(k => b(e, o, k) * a(e, k, i)) / R];
}
