namespace UnslothMerge.Tests.Planning;

/// <summary>What is said of a base, given the name in adapter_config.json, the base's folder, its config and its card.</summary>
public sealed class NamedBaseTests : FileTests
{
    [Theory]

    // The base that is named: by its folder, by the cache's, by its config, from another mirror.
    [InlineData("org/llama-1b", "llama-1b", null, false, false)]
    [InlineData("/content/models/llama-1b", "Llama-1B", null, false, false)]
    [InlineData("org/llama-1b", "models--org--llama-1b/snapshots/0e9e39f249a16976918f6564b8830bc894c89659", null, false, false)]
    [InlineData("mirror/llama-1b", "models--org--llama-1b/snapshots/0e9e39f249a16976918f6564b8830bc894c89659", null, false, false)]
    [InlineData("org/llama-1b", "base", "org/llama-1b", false, false)]
    [InlineData("org/llama-3-8b", "base", "meta/Meta-Llama-3-8B", false, false)]
    [InlineData("org/llama-1b-unsloth-bnb-4bit", "llama-1b-bnb-4bit", null, true, false)]

    // Nothing is known of a plain folder.
    [InlineData("org/llama-1b", "base", null, false, false)]
    [InlineData("org/llama-1b", "base", null, true, false)]
    [InlineData("org/llama-1b", "my-sft", "./checkpoint", false, false)]

    // A 4-bit model was named and its 16-bit one given, as usual.
    [InlineData("unsloth/llama-1b-bnb-4bit", "llama-1b", null, false, false)]
    [InlineData("unsloth/llama-1b-bnb-4bit", "base", null, false, false)]
    [InlineData("unsloth/llama-1b-unsloth-bnb-4bit", "base", "unsloth/llama-1b", false, false)]

    // A 16-bit model was named and a quantized one given.
    [InlineData("org/llama-1b", "llama-1b-bnb-4bit", null, true, true)]
    [InlineData("org/llama-1b", "models--org--llama-1b-FP8/snapshots/0e9e39f249a16976918f6564b8830bc894c89659", null, true, true)]

    // Another model.
    [InlineData("org/llama-1b-instruct", "models--org--llama-1b/snapshots/0e9e39f249a16976918f6564b8830bc894c89659", null, false, true)]
    [InlineData("org/llama-1b", "base", "org/qwen-1b", false, true)]
    [InlineData("org/llama-1b-instruct", "llama-1b", null, false, true)]
    [InlineData("org/llama-1b-instruct-bnb-4bit", "Llama-1B", null, false, true)]
    [InlineData("org/llama-1b", "llama-1b-instruct", null, false, true)]
    [InlineData("org/llama-1b", "llama-3b", null, false, true)]
    [InlineData("org/llama-1b", "llama-1b-copy", null, false, false)]
    [InlineData("org/Qwen2.5-1B", "base", null, false, true)]
    [InlineData("org/TinyLlama-1.1B", "base", null, false, false)]
    [InlineData("org/DeepSeek-R1-Distill-Llama-8B", "base", null, false, false)]
    public void A_surprise_is_a_warning(string named, string folder, string? nameOrPath, bool quantized, bool surprise)
    {
        var found = Compare(named, folder, nameOrPath, quantized, card: null)!;
        Assert.True(found.NeedsWarning == surprise, found.Text);
        Assert.Contains($"'{named}'", found.Text, StringComparison.Ordinal);
    }

    [Fact]
    public void The_card_of_a_quantized_base_tells_its_original()
    {
        Assert.False(Compare("unsloth/llama-1b-bnb-4bit", "base", null, quantized: true,
            "---\nbase_model:\n- org/llama-1b\ntags: [x]\n---\n")!.NeedsWarning);
        Assert.True(Compare("org/llama-1b", "base", null, quantized: true, "---\nbase_model: \"org/llama-1b\"\n---\n")!.NeedsWarning);
    }

    [Fact]
    public void An_adapter_that_names_no_base_says_nothing() => Assert.Null(Compare(null, "base", null, quantized: false, card: null));

    private NamedBase? Compare(string? named, string folder, string? nameOrPath, bool quantized, string? card)
    {
        var config = new JsonObject { ["model_type"] = "llama", ["_name_or_path"] = nameOrPath };
        config["quantization_config"] = quantized ? new JsonObject { ["quant_method"] = "bitsandbytes", ["load_in_4bit"] = true } : null;
        var model = TinyModel.Base(Temp[folder], config.ToJsonString(), TinyTensor.BF16("a.weight", [1, 1], 0));
        if (card is not null)
        {
            File.WriteAllText(Path.Combine(model, "README.md"), card);
        }

        var adapter = TinyModel.Adapter(Temp["adapter"],
            new JsonObject { ["peft_type"] = "LORA", ["base_model_name_or_path"] = named }.ToJsonString(),
            ("base_model.model.a.lora_A.weight", Numbers.Zeros(1, 1)));
        return NamedBase.Compare(ModelDirectory.Open(model), AdapterDirectory.Open(adapter));
    }
}
