using UnslothMerge.Tests.Tokenizers;

namespace UnslothMerge.Tests.Saving;

public sealed class ModelExtrasTests : FileTests
{
    public ModelExtrasTests()
    {
        new TinyModel(
            """{"architectures": ["TinyForCausalLM"], "model_type": "tiny", "tie_word_embeddings": false, "eos_token_id": 0}""",
            ("model.embed_tokens.weight", Numbers.Zeros(261, 1))).With("""{"r": 1}""",
            ("model.embed_tokens.lora_embedding_A", Numbers.Zeros(1, 261)),
            ("model.embed_tokens.lora_embedding_B", Numbers.Zeros(1, 1))).Write(Temp);
        Write("base/generation_config.json", """{"_from_model_config": true, "eos_token_id": 0, "temperature": 0.6}""");
    }

    [Fact]
    public void The_bases_own_files_are_told_of_and_left_alone()
    {
        TinyTokenizer.Fast(Temp["base"], eos: "<|end|>", added: ["<|end|>"]);
        var extras = Extras();
        Assert.Equal(2, extras.Warnings.Count);
        Assert.All(extras.Warnings, w => Assert.Contains("'<|end|>' (259)", w.Text, StringComparison.Ordinal));
        Assert.Equal(Temp["base/generation_config.json"], extras.Copied["generation_config.json"]);
        Assert.Equal(0, (int)Json(extras, "config.json")["eos_token_id"]!);
    }

    [Fact]
    public void Code_that_is_copied_is_named()
    {
        Write("base/modeling_tiny.py", "# code");
        Assert.Contains("copied as it is: modeling_tiny.py.", Assert.Single(Extras().Warnings).Text, StringComparison.Ordinal);
    }

    [Fact]
    public void Configs_follow_the_tokenizer_that_the_adapter_was_trained_with()
    {
        TinyTokenizer.Fast(Temp["base"], eos: "!", template: "base");
        TinyTokenizer.Fast(Temp["adapter"], eos: "<|end|>", added: ["<|end|>"], template: "adapter");
        var extras = Extras();
        Assert.Equal(259, (int)Json(extras, "config.json")["eos_token_id"]!);
        Assert.Equal("""{"eos_token_id":[259,0],"temperature":0.6}""", Json(extras, "generation_config.json").ToJsonString());
        Assert.DoesNotContain("generation_config.json", extras.Copied.Keys);
        Assert.Equal(2, extras.Warnings.Count);
        Assert.All(extras.Warnings, w => Assert.Contains("now says eos_token_id 259", w.Text, StringComparison.Ordinal));
    }

    [Fact]
    public void Without_a_generation_config_the_models_own_ends_at_both()
    {
        File.Delete(Temp["base/generation_config.json"]);
        TinyTokenizer.Fast(Temp["adapter"], eos: "<|end|>", added: ["<|end|>"]);
        Assert.Equal("[259,0]", Json(Extras(), "config.json")["eos_token_id"]!.ToJsonString());
        Assert.DoesNotContain("generation_config.json", Extras().Written().Keys);
    }

    [Fact]
    public void Tokens_without_a_row_are_told_of_and_put_into_no_config()
    {
        TinyTokenizer.Fast(Temp["adapter"], eos: "<3>", added: ["<1>", "<2>", "<3>", "<4>"]);
        var extras = Extras();
        Assert.Contains(extras.Warnings,
            w => w.Text.Contains("261 rows", StringComparison.Ordinal)
                && w.Text.Contains("'<3>' (261), '<4>' (262).", StringComparison.Ordinal));
        Assert.Equal(0, (int)Json(extras, "config.json")["eos_token_id"]!);
    }

    [Fact]
    public void A_lost_template_is_told_of()
    {
        TinyTokenizer.Fast(Temp["base"], template: "base");
        TinyTokenizer.Fast(Temp["adapter"]);
        Assert.Contains("no chat template", Assert.Single(Extras().Warnings).Text, StringComparison.Ordinal);
        Assert.DoesNotContain("chat_template.jinja", Extras().Copied.Keys);
        Assert.Empty(Extras(Temp["base"]).Warnings);
        Assert.Equal(Temp["base/tokenizer.json"], Extras(Temp["base"]).Copied["tokenizer.json"]);
    }

    [Theory]
    [InlineData("chat_template.json", """{"chat_template": "base"}""")]
    [InlineData("chat_template.jinja", "base")]
    public void No_template_of_the_base_stays_beside_the_adapters(string name, string text)
    {
        TinyTokenizer.Fast(Temp["base"]);
        Write("base/" + name, text);
        Write("base/processor_config.json", """{"processor_class": "P", "chat_template": "base"}""");
        Write("adapter/tokenizer_config.json", """{"chat_template": "inline"}""");
        var extras = Extras();
        Assert.DoesNotContain(name, extras.Copied.Keys);
        Assert.Equal("inline", extras.Written()["chat_template.jinja"]);
        Assert.Equal("""{"processor_class":"P"}""", Json(extras, "processor_config.json").ToJsonString());

        Write("adapter/chat_template.jinja", "file");
        extras = Extras();
        Assert.Equal(Temp["adapter/chat_template.jinja"], extras.Copied["chat_template.jinja"]);
        Assert.DoesNotContain("chat_template.jinja", extras.Written().Keys);
        Assert.DoesNotContain("chat_template.json", extras.Copied.Keys);
    }

    [Fact]
    public void The_bases_template_stays_where_no_adapter_has_one()
    {
        TinyTokenizer.Fast(Temp["base"], template: "base");
        Write("base/processor_config.json", """{"chat_template": "base"}""");
        Assert.Equal(Temp["base/chat_template.jinja"], Extras().Copied["chat_template.jinja"]);
        Assert.Equal(Temp["base/processor_config.json"], Extras().Copied["processor_config.json"]);
    }

    [Fact]
    public void Older_forms_of_a_vocabulary_are_saved_with_the_same_one_or_told_of()
    {
        TinyTokenizer.Fast(Temp["base"]);
        TinyTokenizer.Fast(Temp["adapter"], added: ["<1>"]);
        Write("base/merges.txt", "a b");
        Assert.Equal(Temp["base/merges.txt"], Extras().Copied["merges.txt"]);
        Assert.Empty(Extras().Warnings);

        var json = JsonNode.Parse(File.ReadAllText(Temp["adapter/tokenizer.json"]))!;
        json["model"]!["vocab"]!["new"] = 260;
        Write("adapter/tokenizer.json", json.ToJsonString());
        Assert.DoesNotContain("merges.txt", Extras().Copied.Keys);
        Assert.Contains(Extras().Warnings, w => w.Text.StartsWith("merges.txt of the base is not saved", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("tokenizer.json", "version https://git-lfs.github.com/spec/v1")]
    [InlineData("tokenizer_config.json", "{")]
    [InlineData("generation_config.json", "{")]
    [InlineData("modules.json", "{}")]
    public void A_damaged_file_is_found_before_anything_is_written(string name, string text)
    {
        TinyTokenizer.Fast(Temp["base"]);
        Write("base/" + name, text);
        Errors.Expect(MergeError.InvalidModel,
            () => TinyModel.Save(TinyModel.WritePlan(TinyModel.Plan(Temp["base"])), Temp["out"]), name);
        Assert.Equal(2, Directory.EnumerateFileSystemEntries(Temp.Path).Count());
    }

    private ModelExtras Extras(string? tokenizer = null) => ModelExtras.For(
        TinyModel.WritePlan(TinyModel.Plan(Temp["base"], Temp["adapter"])),
        Destination.Check(Temp["out"], [], force: false),
        "merged_16bit",
        new ExtrasOptions { Tokenizer = tokenizer });

    private static JsonObject Json(ModelExtras extras, string name) => (JsonObject)JsonNode.Parse(extras.Written()[name])!;

    private void Write(string name, string text) => File.WriteAllText(Temp[name], text);
}
