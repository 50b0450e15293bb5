using UnslothMerge.Tests.Tokenizers;

namespace UnslothMerge.Tests.Saving;

public sealed class ModelExtrasTests : IDisposable
{
    private readonly TemporaryDirectory _directory = new();

    public ModelExtrasTests()
    {
        TinyModel.Base(_directory["base"], TinyTensor.F32("model.embed_tokens.weight", [261, 1], new float[261]));
        TinyModel.Lora(_directory["adapter"], 1,
            TinyTensor.F32("base_model.model.model.embed_tokens.lora_embedding_A", [1, 261], new float[261]),
            TinyTensor.F32("base_model.model.model.embed_tokens.lora_embedding_B", [1, 1], 1));
        Write("base/config.json",
            """{"architectures": ["TinyForCausalLM"], "model_type": "tiny", "tie_word_embeddings": false, "eos_token_id": 0}""");
        Write("base/generation_config.json", """{"_from_model_config": true, "eos_token_id": 0, "temperature": 0.6}""");
    }

    public void Dispose() => _directory.Dispose();

    [Fact]
    public void The_bases_own_files_are_told_of_and_left_alone()
    {
        TinyTokenizer.Fast(_directory["base"], eos: "<|end|>", added: ["<|end|>"]);
        var extras = Extras();
        Assert.Equal(2, extras.Warnings.Count);
        Assert.All(extras.Warnings, w => Assert.Contains("'<|end|>' (259)", w, StringComparison.Ordinal));
        Assert.Equal(_directory["base/generation_config.json"], extras.Copied["generation_config.json"]);
        Assert.Equal(0, (int)Json(extras, "config.json")["eos_token_id"]!);
    }

    [Fact]
    public void Configs_follow_the_tokenizer_that_the_adapter_was_trained_with()
    {
        TinyTokenizer.Fast(_directory["base"], eos: "!", template: "base");
        TinyTokenizer.Fast(_directory["adapter"], eos: "<|end|>", added: ["<|end|>"], template: "adapter");
        var extras = Extras();
        Assert.Equal(259, (int)Json(extras, "config.json")["eos_token_id"]!);
        Assert.Equal("""{"eos_token_id":[259,0],"temperature":0.6}""", Json(extras, "generation_config.json").ToJsonString());
        Assert.DoesNotContain("generation_config.json", extras.Copied.Keys);
        Assert.Equal(2, extras.Warnings.Count);
        Assert.All(extras.Warnings, w => Assert.Contains("now says eos_token_id 259", w, StringComparison.Ordinal));
    }

    [Fact]
    public void Without_a_generation_config_the_models_own_ends_at_both()
    {
        File.Delete(_directory["base/generation_config.json"]);
        TinyTokenizer.Fast(_directory["adapter"], eos: "<|end|>", added: ["<|end|>"]);
        Assert.Equal("[259,0]", Json(Extras(), "config.json")["eos_token_id"]!.ToJsonString());
        Assert.DoesNotContain("generation_config.json", Extras().Written.Keys);
    }

    [Fact]
    public void Tokens_without_a_row_are_told_of_and_put_into_no_config()
    {
        TinyTokenizer.Fast(_directory["adapter"], eos: "<3>", added: ["<1>", "<2>", "<3>", "<4>"]);
        var extras = Extras();
        Assert.Contains(extras.Warnings,
            w => w.Contains("261 rows", StringComparison.Ordinal) && w.Contains("'<3>' (261), '<4>' (262).", StringComparison.Ordinal));
        Assert.Equal(0, (int)Json(extras, "config.json")["eos_token_id"]!);
    }

    [Fact]
    public void A_lost_template_is_told_of()
    {
        TinyTokenizer.Fast(_directory["base"], template: "base");
        TinyTokenizer.Fast(_directory["adapter"]);
        Assert.Contains("no chat template", Assert.Single(Extras().Warnings), StringComparison.Ordinal);
        Assert.DoesNotContain("chat_template.jinja", Extras().Copied.Keys);
        Assert.Empty(Extras(_directory["base"]).Warnings);
        Assert.Equal(_directory["base/tokenizer.json"], Extras(_directory["base"]).Copied["tokenizer.json"]);
    }

    [Theory]
    [InlineData("tokenizer.json", "version https://git-lfs.github.com/spec/v1")]
    [InlineData("tokenizer_config.json", "{")]
    [InlineData("generation_config.json", "{")]
    [InlineData("modules.json", "{}")]
    public void A_damaged_file_is_found_before_anything_is_written(string name, string text)
    {
        TinyTokenizer.Fast(_directory["base"]);
        Write("base/" + name, text);
        var error = Assert.Throws<MergeException>(() =>
            TinyModel.Save(TinyModel.WritePlan(TinyModel.Plan(_directory["base"])), _directory["out"]));
        Assert.Equal(MergeError.InvalidModel, error.Error);
        Assert.Contains(name, error.Message, StringComparison.Ordinal);
        Assert.Equal(2, Directory.EnumerateFileSystemEntries(_directory.Path).Count());
    }

    private ModelExtras Extras(string? tokenizer = null) => ModelExtras.For(
        TinyModel.WritePlan(TinyModel.Plan(_directory["base"], _directory["adapter"])),
        Destination.Check(_directory["out"], [], force: false),
        "merged_16bit",
        new ExtrasOptions { Tokenizer = tokenizer });

    private static JsonObject Json(ModelExtras extras, string name) => (JsonObject)JsonNode.Parse(extras.Written[name])!;

    private void Write(string name, string text) => File.WriteAllText(_directory[name], text);
}
