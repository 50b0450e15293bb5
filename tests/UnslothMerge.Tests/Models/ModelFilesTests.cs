using UnslothMerge.Models;
using UnslothMerge.Saving;

namespace UnslothMerge.Tests.Models;

public sealed class ModelFilesTests
{
    private static readonly string[] Tokenizer =
    [
        "added_tokens.json", "additional_chat_templates/tool_use.jinja", "chat_template.jinja", "merges.txt", "qwen.tiktoken", "special_tokens_map.json",
        "spiece.model", "tekken.json", "tokenizer.json", "tokenizer.model", "tokenizer.model.v3", "tokenizer_config.json", "vocab.json", "vocab.txt",
    ];

    private static readonly string[] Carried =
    [
        "1_Pooling/config.json", "LICENSE", "LICENSE.txt", "NOTICE", "USE_POLICY.md", "generation_config.json", "modeling_tiny.py", "modules.json",
        "preprocessor_config.json", "processor_config.json", "sub/configuration_tiny.py", "video_preprocessor_config.json",
    ];

    private static readonly string[] Written =
    [
        ".gitattributes", ".cache/huggingface/download/x.lock", "README.md", "adapter_config.json", "adapter_model.bin", "adapter_model.safetensors", "config.json",
        "model-00001-of-00002.safetensors", "model.fp16.safetensors", "model.safetensors", "model.safetensors.index.json", "model.safetensors.index.fp16.json", "pytorch_model-00001-of-00002.bin",
        "pytorch_model.bin", "pytorch_model.bin.index.json",
    ];

    private static readonly string[] Unknown = ["notes.txt", "original/consolidated.00.pth", "sub/config.json", "sub/model.safetensors", "thesis.docx", "training_args.bin", "x.json"];

    [Fact]
    public void Every_file_is_in_its_group()
    {
        using var directory = Filled([.. Tokenizer, .. Carried, .. Written, .. Unknown]);
        Assert.Equal(Tokenizer.Order(StringComparer.Ordinal), ModelFiles.Tokenizer(directory.Path));
        Assert.Equal(Carried.Order(StringComparer.Ordinal), ModelFiles.Carried(directory.Path));
        Assert.Equal(Unknown.Order(StringComparer.Ordinal), ModelFiles.Unknown(directory.Path));
    }

    [Theory]
    [InlineData("tokenizer.json", true)]
    [InlineData("tokenizer.model", true)]
    [InlineData("vocab.txt", true)]
    [InlineData("tokenizer_config.json", false)]
    [InlineData("chat_template.jinja", false)]
    [InlineData("sub/tokenizer.json", false)]
    public void A_tokenizer_is_one_if_it_has_a_vocabulary(string file, bool whole)
    {
        using var directory = Filled(file);
        Assert.Equal(whole, ModelFiles.HasTokenizer(directory.Path));
    }

    [Fact]
    public void An_adapters_whole_tokenizer_takes_the_place_of_the_bases()
    {
        using var @base = Filled("tokenizer.json", "special_tokens_map.json", "generation_config.json");
        using var adapter = Filled("tokenizer.model", "chat_template.jinja");
        var files = CarriedFiles.ForModel(@base.Path, [adapter.Path]);
        Assert.Equal(["chat_template.jinja", "generation_config.json", "tokenizer.model"], files.Keys);
        Assert.Equal(adapter["tokenizer.model"], files["tokenizer.model"]);
    }

    [Fact]
    public void An_adapters_template_goes_on_top_of_the_bases_tokenizer()
    {
        using var @base = Filled("tokenizer.json", "chat_template.jinja");
        using var first = Filled("chat_template.jinja");
        using var second = Filled("chat_template.jinja", "added_tokens.json");
        var files = CarriedFiles.ForModel(@base.Path, [first.Path, second.Path]);
        Assert.Equal([second["added_tokens.json"], first["chat_template.jinja"], @base["tokenizer.json"]], files.Values);
    }

    [Fact]
    public void A_file_that_cannot_be_carried_over_is_named_before_anything_is_written()
    {
        using var directory = new TemporaryDirectory();
        TinyModel.Base(directory["base"], TinyTensor.F32("m.weight", [1], 1));
        File.CreateSymbolicLink(directory["base/tokenizer.json"], "/nowhere/tokenizer.json");
        var error = Assert.Throws<MergeException>(() => TinyModel.Save(TinyModel.WritePlan(TinyModel.Plan(directory["base"])), directory["out"]));
        Assert.Equal(MergeError.InvalidModel, error.Error);
        Assert.Contains("base/tokenizer.json", error.Message, StringComparison.Ordinal);
        Assert.Equal([directory["base"]], Directory.EnumerateFileSystemEntries(directory.Path));
    }

    private static TemporaryDirectory Filled(params string[] files)
    {
        var directory = new TemporaryDirectory();
        foreach (var file in files)
        {
            Directory.CreateDirectory(Path.GetDirectoryName(directory[file])!);
            File.WriteAllText(directory[file], file);
        }

        return directory;
    }
}
