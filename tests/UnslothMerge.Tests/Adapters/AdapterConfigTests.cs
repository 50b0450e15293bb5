namespace UnslothMerge.Tests.Adapters;

public sealed class AdapterConfigTests
{
    [Theory]
    [InlineData("model.layers.0.self_attn.q_proj", 2)] // the whole path
    [InlineData("model.layers.1.self_attn.q_proj", 3)] // a regular expression, and the first that matches
    [InlineData("model.layers.10.self_attn.q_proj", 4)]
    [InlineData("q_proj", 4)] // a bare name
    [InlineData("model.layers.0.self_attn.qq_proj", 8)] // not the end of another name
    [InlineData("model.layers.0.self_attn.q_proj.inner", 8)]
    [InlineData("model.layers.0.self_attn.v_proj", 8)]
    public void The_first_pattern_that_matches_gives_the_rank(string module, int rank)
    {
        const string json =
            """{"peft_type":"LORA","r":8,"lora_alpha":16,"rank_pattern":{"model.layers.0.self_attn.q_proj":""" +
            """2,"layers\\.[01]\\.self_attn\\.(q|k)_proj":3,"q_proj":4,"self_attn.q_proj":5}}""";
        Assert.Equal(rank, Read(json).RankOf(module));
    }

    [Fact]
    public void A_pattern_may_be_anchored()
    {
        var config = Read("""{"peft_type":"LORA","r":8,"lora_alpha":16,"alpha_pattern":{"^model.decoder.q_proj":32.5}}""");
        Assert.Equal(32.5, config.AlphaOf("model.decoder.q_proj"));
        Assert.Equal(16, config.AlphaOf("other.model.decoder.q_proj"));
    }

    [Theory]
    [InlineData("""{"peft_type":"LORA","r":8,"lora_alpha":16}""", 8, 2)]
    [InlineData("""{"peft_type":"LORA","r":8,"lora_alpha":16,"use_rslora":true}""", 4, 8)]
    [InlineData("""{"peft_type":"LORA","r":8,"lora_alpha":11.313708498984761}""", 16, 0.7071067811865476)]
    [InlineData("""{"peft_type":"LORA","r":8,"lora_alpha":16,"alpha_pattern":{"m":4},"use_rslora":true}""", 16, 1)]
    [InlineData("""{"peft_type":"lora","lora_alpha":1}""", 3, 1 / 3.0)]
    public void The_scaling_is_alpha_over_the_rank_or_its_root(string json, int rank, double scaling) =>
        Assert.Equal(scaling, Read(json).ScalingOf("m", rank), 15);

    [Theory]
    [InlineData("""{"peft_type":"LORA","lora_alpha":1,"alpha_pattern":{"(":2}}""", "(")]
    [InlineData("""{"peft_type":"LORA","lora_alpha":1,"alpha_pattern":{"m":"2"}}""", "'m'")]
    [InlineData("""{"peft_type":"LORA"}""", "lora_alpha")]
    [InlineData("""{"peft_type":"LORA","lora_alpha":null}""", "lora_alpha")]
    public void A_config_without_a_usable_alpha_is_refused(string json, string named)
    {
        Errors.Expect(MergeError.InvalidAdapter, () => Read(json).AlphaOf("m"), named);
    }

    [Theory]
    [InlineData("\"use_rslora\":\"true\"", "use_rslora")]
    [InlineData("\"use_rslora\":[]", "use_rslora")]
    [InlineData("\"alpha_pattern\":[1]", "alpha_pattern")]
    [InlineData("\"lora_alpha\":\"16\"", "lora_alpha is \"16\"")]
    [InlineData("\"r\":8.7", "8.7")]
    [InlineData("\"r\":true", "r is true")]
    [InlineData("\"rank_pattern\":{\"m\":2.5}", "2.5")]
    public void An_option_of_another_type_does_not_count_as_absent(string option, string said)
    {
        var json = JsonNode.Parse("""{"peft_type":"LORA","r":8,"lora_alpha":1}""")!.AsObject();
        var (name, value) = JsonNode.Parse($"{{{option}}}")!.AsObject().Single();
        json[name] = value?.DeepClone();
        var config = new AdapterConfig(json, "adapter_config.json");
        Errors.Expect(MergeError.InvalidAdapter, () => _ = (config.RankOf("m"), config.ScalingOf("m", 1)), said);
    }

    [Fact]
    public void One_is_true() => Assert.Equal(2, Read("""{"peft_type":"LORA","lora_alpha":4,"use_rslora":1}""").ScalingOf("m", 4));

    [Fact]
    public void A_config_that_is_not_pefts_is_refused() =>
        Errors.Expect(() => Read("{}"), "peft_type");

    [Theory]
    [InlineData("null", false)]
    [InlineData("false", false)]
    [InlineData("0", false)]
    [InlineData("\"\"", false)]
    [InlineData("[]", false)]
    [InlineData("{}", false)]
    [InlineData("true", true)]
    [InlineData("0.5", true)]
    [InlineData("\"x\"", true)]
    [InlineData("[0]", true)]
    [InlineData("{\"a\":null}", true)]
    public void An_option_is_set_unless_it_says_nothing(string value, bool set) =>
        Assert.Equal(set, Read($$"""{"peft_type":"LORA","use_dora":{{value}}}""").IsSet("use_dora"));

    private static AdapterConfig Read(string json) => new((JsonObject)JsonNode.Parse(json)!, "adapter_config.json");
}
