namespace UnslothMerge.Tests.Models;

public sealed class ModelConfigTests : FileTests
{
    // As the libraries write it: numbers in spellings that a parser would change, keys in no order, letters beyond ASCII.
    private const string Text = """
        {
          "zeta": 1e-05,
          "architectures": [
            "TinyForCausalLM"
          ],
          "rope_theta": 500000.0,
          "eps": 1E-6,
          "big": 12345678901234567890123,
          "negative_zero": -0.0,
          "torch_dtype": "float32",
          "name": "é+<&'層",
          "time_step_limit": [
            0.0,
            Infinity
          ],
          "others": [
            -Infinity,
            NaN
          ],
          "words": "Infinity, \"NaN\" and -Infinity \\",
          "nothing": null,
          "empty": {},
          "list": [],
          "vocab_size": 32000,
          "alpha": true
        }

        """;

    [Fact]
    public void What_nobody_edits_stays_as_it_was_written() => Assert.Equal(Text, Edited(c => c));

    [Theory]
    [InlineData("tie_word_embeddings", "1", "which is not true or false")]
    [InlineData("tie_word_embeddings", "\"true\"", "which is not true or false")]
    [InlineData("quantization_config", "5", "which is not an object")]
    [InlineData("quantization_config", "[]", "which is not an object")]
    public void What_has_another_type_is_refused(string key, string value, string said)
    {
        File.WriteAllText(Temp["config.json"], $$$"""{"text_config": {"model_type": "x", "{{{key}}}": {{{value}}}}}""");
        Errors.Expect(MergeError.InvalidModel, () => ModelConfig.Read(Temp.Path), $"{key} is {value}, {said}");
    }

    [Fact]
    public void Another_dtype_changes_one_line() =>
        Assert.Equal(Text.Replace("\"float32\"", "\"bfloat16\"", StringComparison.Ordinal), Edited(c => c.WithDType(TensorType.BF16)));

    [Fact]
    public void Another_vocabulary_changes_one_line() =>
        Assert.Equal(Text.Replace("32000", "32008", StringComparison.Ordinal), Edited(c => c.WithVocabulary(32008)));

    [Fact]
    public void An_edit_leaves_the_original_alone()
    {
        var config = Load(Text);
        _ = config.WithDType(TensorType.F16).WithVocabulary(7).Untied();
        Assert.Equal(Text, JsonFile.Text(config.ToJson()));
    }

    [Theory]
    [InlineData("""{"dtype":"float16"}""", """{"dtype":"bfloat16"}""")]
    [InlineData("""{"torch_dtype":"float16"}""", """{"torch_dtype":"bfloat16"}""")]
    [InlineData("""{}""", """{"dtype":"bfloat16"}""")]
    [InlineData("""{"dtype":"float16","text_config":{"dtype":"float16","x":1},"vision_config":{"y":2}}""",
        """{"dtype":"bfloat16","text_config":{"dtype":"bfloat16","x":1},"vision_config":{"y":2}}""")]
    [InlineData("""{"dtype":"float16","thinker_config":{"text_config":{"torch_dtype":"float16"}}}""",
        """{"dtype":"bfloat16","thinker_config":{"text_config":{"torch_dtype":"bfloat16"}}}""")]
    [InlineData("""{"dtype":"float16","quantization_config":{"weights":{"dtype":"x"}}}""",
        """{"dtype":"bfloat16","quantization_config":{"weights":{"dtype":"x"}}}""")]
    public void The_dtype_is_written_under_the_key_that_was_there(string json, string expected) =>
        Assert.Equal(expected, Read(json).WithDType(TensorType.BF16).ToJson().ToJsonString());

    [Theory]
    [InlineData("""{"vocab_size":5}""", """{"vocab_size":6}""")]
    [InlineData("""{"text_config":{"vocab_size":5}}""", """{"text_config":{"vocab_size":6}}""")]
    [InlineData("""{"vocab_size":5,"text_config":{"vocab_size":5}}""", """{"vocab_size":6,"text_config":{"vocab_size":6}}""")]
    [InlineData("""{"llm_config":{"vocab_size":5},"vision_config":{"vocab_size":9}}""",
        """{"llm_config":{"vocab_size":6},"vision_config":{"vocab_size":9}}""")]
    [InlineData("""{"thinker_config":{"text_config":{"vocab_size":5}},"codec_config":{"vocab_size":7}}""",
        """{"thinker_config":{"text_config":{"vocab_size":6}},"codec_config":{"vocab_size":7}}""")]
    public void The_vocabulary_is_written_wherever_it_is_stated(string json, string expected) =>
        Assert.Equal(expected, Read(json).WithVocabulary(6).ToJson().ToJsonString());

    [Theory]
    [InlineData("{}", true)]
    [InlineData("""{"tie_word_embeddings":false}""", false)]
    [InlineData("""{"text_config":{"tie_word_embeddings":false}}""", false)]
    [InlineData("""{"tie_word_embeddings":true,"text_config":{"tie_word_embeddings":false}}""", true)]
    [InlineData("""{"tie_word_embeddings":false,"thinker_config":{"text_config":{"tie_word_embeddings":true}}}""", true)]
    [InlineData("""{"model_type":"gpt_neox"}""", false)]
    [InlineData("""{"model_type":"internvl"}""", true)]
    public void Embeddings_are_tied_unless_the_config_says_otherwise(string json, bool tied) =>
        Assert.Equal(tied, Read(json).TiesWordEmbeddings);

    [Theory]
    [InlineData("""{"tie_word_embeddings":true}""", """{"tie_word_embeddings":false}""")]
    [InlineData("""{"text_config":{"x":1}}""", """{"text_config":{"x":1,"tie_word_embeddings":false},"tie_word_embeddings":false}""")]
    public void A_tie_is_undone_at_both_levels(string json, string expected) =>
        Assert.Equal(expected, Read(json).Untied().ToJson().ToJsonString());

    [Fact]
    public void Quantization_is_taken_out_whole()
    {
        var config = Read("""{"a":1,"quantization_config":{"quant_method":"bitsandbytes"},"b":2.50}""").WithoutQuantization();
        Assert.Null(config.Quantization);
        Assert.Equal("""{"a":1,"b":2.50}""", config.ToJson().ToJsonString());
    }

    [Theory]
    [InlineData("[]")]
    [InlineData("")]
    [InlineData("{\"a\":1,\"a\":2}")]
    [InlineData("{\"a\":1,}")]
    [InlineData("{\"a\":Infinityy}")]
    [InlineData("{NaN:1}")]
    [InlineData("{\"a\":+Infinity}")]
    public void A_file_that_is_no_json_object_is_named(string text)
    {
        File.WriteAllText(Temp["config.json"], text);
        Errors.Expect(MergeError.InvalidModel, () => ModelDirectory.Open(Temp.Path), "config.json");
    }

    private static ModelConfig Read(string json) => new((JsonObject)JsonNode.Parse(json)!);

    private static string Edited(Func<ModelConfig, ModelConfig> edit) => JsonFile.Text(edit(Load(Text)).ToJson());

    private static ModelConfig Load(string text)
    {
        using var directory = new TemporaryDirectory();
        File.WriteAllText(directory["config.json"], text);
        return new ModelConfig(JsonFile.Read(directory["config.json"], MergeError.InvalidModel));
    }
}
