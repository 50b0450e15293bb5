using UnslothMerge.Adapters;

namespace UnslothMerge.Tests.Hub.Fetching;

/// <summary>Which files of a repository a merge needs.</summary>
public sealed class FileChoiceTests
{
    [Theory]
    [InlineData("model.safetensors pytorch_model.bin model.safetensors.index.json", null, "model.safetensors")]
    [InlineData("pytorch_model.bin.index.json model.safetensors.index.json", "model.safetensors.index.json", "")]
    [InlineData("pytorch_model.bin consolidated.safetensors", null, "pytorch_model.bin")]
    [InlineData("model.fp16.safetensors", null, "model.fp16.safetensors")]
    [InlineData("model.safetensors model.fp16.safetensors", null, "model.safetensors")]
    [InlineData("model.safetensors.index.fp16.json model.fp16-00001-of-00002.safetensors", "model.safetensors.index.fp16.json", "")]
    [InlineData("model-00001-of-00002.safetensors", null, "model-00001-of-00002.safetensors model-00002-of-00002.safetensors")]
    public void Weights_are_chosen_as_transformers_does(string names, string? index, string files)
    {
        var choice = WeightFiles.Choose("x", names.Split(' '))!;
        Assert.Equal(index, choice.Index);
        Assert.Equal(files.Split(' ', StringSplitOptions.RemoveEmptyEntries), choice.Files);
    }

    [Fact]
    public void No_weights_are_none() => Assert.Null(WeightFiles.Choose("x", ["model.gguf", "config.json"]));

    [Fact]
    public void Several_variants_are_refused() => Errors.Expect(
        MergeError.InvalidModel, () => WeightFiles.Choose("x", ["model.fp16.safetensors", "model.ema.safetensors"]), "ema, fp16");

    [Theory]
    [InlineData("config.json", true)]
    [InlineData("tokenizer.json", true)]
    [InlineData("chat_template.jinja", true)]
    [InlineData("additional_chat_templates/tool_use.jinja", true)]
    [InlineData("LICENSE.txt", true)]
    [InlineData("modeling_x.py", true)]
    [InlineData("README.md", true)]
    [InlineData("preprocessor_config.json", true)]
    [InlineData("model-q4.gguf", false)]
    [InlineData("original/consolidated.00.pth", false)]
    [InlineData("original/tokenizer.model", false)]
    [InlineData("onnx/model.onnx", false)]
    [InlineData("pytorch_model.bin", false)]
    [InlineData("checkpoint-5/tokenizer.json", false)]
    [InlineData("figures/plot.png", false)]
    public void A_base_is_read_by_these(string name, bool isRead) => Assert.Equal(isRead, ModelFiles.IsRead(name));

    [Fact]
    public void An_adapter_is_read_without_its_training_states()
    {
        string[] names =
        [
            "README.md", "adapter_config.json", "adapter_model.bin", "adapter_model.safetensors", "optimizer.pt", "rng_state.pth",
            "scheduler.pt", "tokenizer.json", "tokenizer_config.json", "trainer_state.json", "training_args.bin",
            "non_lora_state_dict.bin", "checkpoint-5/adapter_model.safetensors", "checkpoint-5/tokenizer.json", "chat_template.jinja",
            "model-q8.gguf", "model-00001-of-00002.safetensors",
        ];
        Assert.Equal(
            [
                "README.md", "adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json",
                "non_lora_state_dict.bin", "chat_template.jinja",
            ],
            AdapterFiles.Choose(names));
    }
}
