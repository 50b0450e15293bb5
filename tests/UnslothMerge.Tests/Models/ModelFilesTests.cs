namespace UnslothMerge.Tests.Models;

public sealed class ModelFilesTests : FileTests
{
    private static readonly string[] Tokenizer =
    [
        "added_tokens.json", "additional_chat_templates/tool_use.jinja", "bpe.codes", "chat_template.jinja", "chat_template.json",
        "chat_templates/rag.jinja", "merges.txt", "qwen.tiktoken",
        "sentencepiece.bpe.model", "source.spm", "special_tokens_map.json", "spiece.model", "tekken.json", "tiktoken.model",
        "tokenization_tiny.py", "tokenizer.json", "tokenizer.model",
        "tokenizer.model.v3", "tokenizer_config.json", "vocab.bpe", "vocab.json", "vocab.txt",
    ];

    private static readonly string[] Processor =
    [
        "feature_extraction_tiny.py", "image_processing_tiny.py", "preprocessor_config.json", "processing_tiny.py",
        "processor_config.json", "video_preprocessor_config.json",
    ];

    private static readonly string[] Carried =
    [
        "1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors", "LICENSE", "LICENSE.txt", "NOTICE",
        "Tiny_License.pdf", "USE_POLICY.md", "config_sentence_transformers.json",
        "generation_config.json", "modeling_tiny.py", "modules.json", "sentence_bert_config.json",
    ];

    private static readonly string[] Written =
    [
        ".gitattributes", ".cache/huggingface/download/x.lock", "README.md", "config.json", "merge.json",
        "model-00001-of-00002.safetensors", "model.fp16.safetensors", "model.safetensors", "model.safetensors.index.json",
        "model.safetensors.index.fp16.json", "pytorch_model-00001-of-00002.bin",
        "pytorch_model.bin", "pytorch_model.bin.index.json", "quantize_config.json",
    ];

    // Carried over, but in a directory that is replaced it may be anybody's.
    private static readonly string[] Doubtful = ["sub/configuration_tiny.py", "tools/train.py", "a.model", "vocab.secret", "setup.py"];

    private static readonly string[] Foreign =
    [
        "3_Other/config.json", "adapter_config.json", "adapter_model.bin", "adapter_model.safetensors", "checkpoint-500/modeling_tiny.py",
        "checkpoint-500/optimizer.pt", "model.gguf", "notes.txt", "original/consolidated.00.pth", "original/params.json", "params.json",
        "sub/config.json", "sub/model.safetensors", "thesis.docx", "trainer_state.json", "training_args.bin",
        "x.json", "x.safetensors", "zero_to_fp32.py",
    ];

    [Fact]
    public void Every_file_is_in_its_group()
    {
        using var directory = Filled([.. Tokenizer, .. Processor, .. Carried, .. Written, .. Foreign]);
        File.WriteAllText(directory["modules.json"],
            """[{"idx": 0, "path": ""}, {"idx": 1, "path": "1_Pooling"}, {"idx": 2, "path": "2_Dense"}]""");
        Assert.Equal(Tokenizer.Order(StringComparer.Ordinal), ModelFiles.Tokenizer(directory.Path));
        Assert.Equal(Processor.Order(StringComparer.Ordinal), ModelFiles.Processor(directory.Path));
        Assert.Equal(Carried.Concat(Processor).Order(StringComparer.Ordinal), ModelFiles.Carried(directory.Path));
        Assert.Equal(Foreign.Order(StringComparer.Ordinal), ModelFiles.Foreign(directory.Path, isAdapter: false, []));
    }

    [Fact]
    public void What_a_save_takes_over_from_its_inputs_may_be_replaced()
    {
        using var directory = Filled(["config.json", "model.safetensors", .. Doubtful]);
        Assert.Equal(Doubtful.Order(StringComparer.Ordinal), ModelFiles.Foreign(directory.Path, isAdapter: false, []));
        Assert.Empty(ModelFiles.Foreign(directory.Path, isAdapter: false, [directory.Path]));
    }

    [Fact]
    public void Links_to_directories_are_not_followed()
    {
        using var directory = Filled("config.json", "modeling_tiny.py");
        Directory.CreateDirectory(directory["empty/inner"]);
        Directory.CreateSymbolicLink(directory["code"], directory.Path);
        Assert.Equal(["modeling_tiny.py"], ModelFiles.Carried(directory.Path));
        Assert.Equal(["code", "empty/inner/"], ModelFiles.Foreign(directory.Path, isAdapter: false, []));
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
    public void An_adapters_processor_goes_on_top_of_the_bases()
    {
        using var @base = Filled("preprocessor_config.json", "processor_config.json", "tokenizer.json");
        using var adapter = Filled("processor_config.json", "generation_config.json", "modeling_tiny.py");
        var files = CarriedFiles.ForModel(@base.Path, [adapter.Path]);
        Assert.Equal([@base["preprocessor_config.json"], adapter["processor_config.json"], @base["tokenizer.json"]], files.Values);
    }

    [Fact]
    public void The_tokenizer_that_the_user_gives_comes_before_all_others()
    {
        using var @base = Filled("tokenizer.json", "added_tokens.json", "preprocessor_config.json");
        using var adapter = Filled("tokenizer.json", "chat_template.jinja", "preprocessor_config.json");
        using var given = Filled("tokenizer.model", "preprocessor_config.json", "config.json", "model.safetensors");
        Assert.Equal([given["preprocessor_config.json"], given["tokenizer.model"]],
            CarriedFiles.ForModel(@base.Path, [adapter.Path], given.Path).Values);
        using var processor = Filled("preprocessor_config.json");
        Assert.Equal([adapter["chat_template.jinja"], processor["preprocessor_config.json"], adapter["tokenizer.json"]],
            CarriedFiles.ForModel(@base.Path, [adapter.Path], processor.Path).Values);
    }

    [Fact]
    public void A_directory_without_a_tokenizer_is_refused()
    {
        using var @base = Filled("tokenizer.json");
        using var given = Filled("chat_template.jinja", "config.json");
        foreach (var (path, id, why) in new[]
        {
            (given.Path, MergeError.InvalidOption, "neither a vocabulary"), (given["config.json"], MergeError.InvalidOption, "is a file"),
            (given["x"], MergeError.PathNotFound, "does not exist"),
        })
        {
            var error = Assert.Throws<MergeException>(() => CarriedFiles.ForModel(@base.Path, [], path));
            Assert.Equal((id, "Tokenizer"), (error.Error, error.Target));
            Assert.Contains(why, error.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_file_that_cannot_be_carried_over_is_named_before_anything_is_written()
    {
        TinyModel.Base(Temp["base"], TinyTensor.F32("m.weight", [1], 1));
        File.CreateSymbolicLink(Temp["base/tokenizer.json"], "/nowhere/tokenizer.json");
        Errors.Expect(MergeError.InvalidModel,
            () => TinyModel.Save(TinyModel.WritePlan(TinyModel.Plan(Temp["base"])), Temp["out"]), "base/tokenizer.json");
        Assert.Equal([Temp["base"]], Directory.EnumerateFileSystemEntries(Temp.Path));
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
