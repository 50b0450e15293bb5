using UnslothMerge.Tests.Tokenizers;

namespace UnslothMerge.Tests;

/// <summary>What would take a reader's memory, its stack or all its time is refused with the limit that it exceeds.</summary>
public sealed class LimitTests : FileTests
{
    [Theory]
    [InlineData('[')]
    [InlineData('{')]
    public void Yaml_is_not_nested_without_end(char bracket)
    {
        File.WriteAllText(Temp["README.md"], $"---\nx: {new string(bracket, 100_000)}\n---\n");
        Errors.Expect(MergeError.InvalidModel, () => CardText.Read(Temp.Path), "nested deeper than 64 levels", "(line ");
    }

    [Fact]
    public void Names_of_tensors_are_of_so_many_forms()
    {
        var names = Enumerable.Range(0, Limits.NameForms + 1).Select(i => string.Concat($"{i}".Select(d => (char)(d + 'a' - '0'))));
        Errors.Expect(MergeError.InvalidModel, () => _ = new CheckpointNames([.. names], new ModelConfig([])), "131072 kinds", "'bdbahc'");
    }

    /// <summary>A million of them at one offset must not be one place of a hash table.</summary>
    [Fact]
    public void Empty_tensors_have_hashes_of_their_own()
    {
        TinyModel.WriteFile(Temp["x.safetensors"],
            [.. Enumerable.Range(0, 100).Select(i => new TinyTensor($"t{i}", TensorType.F32, [0, 4], []))]);
        var hashes = SafetensorsFile.Open(Temp["x.safetensors"]).Tensors.Select(t => t.GetHashCode());
        Assert.InRange(hashes.Distinct().Count(), 90, 100);
    }

    [Fact]
    public void The_yaml_of_a_card_has_a_length()
    {
        File.WriteAllText(Temp["README.md"], $"---\n{string.Concat(Enumerable.Range(0, 120_000).Select(i => $"k{i}: v\n"))}---\n");
        Errors.Expect(MergeError.InvalidModel, () => CardText.Read(Temp.Path), "its YAML has ", "at most 1048576");
    }

    [Fact]
    public void Few_numbers_of_a_config_are_none_of_Json()
    {
        File.WriteAllText(Temp["config.json"], $$"""{"a": [{{string.Concat(Enumerable.Repeat("NaN, ", 70_000))}}1]}""");
        Errors.Expect(MergeError.InvalidModel, () => JsonFile.Read(Temp["config.json"], MergeError.InvalidModel),
            "more than 65536 numbers that JSON does not have");
    }

    [Theory]
    [InlineData("\"k{0}\": {0}", '{', '}')]
    [InlineData("[{0}]", '[', ']')]
    public void A_config_has_a_number_of_values(string value, char open, char close)
    {
        var values = string.Join(", ", Enumerable.Range(0, (1 << 19) + 1).Select(i => string.Format(null, value, i)));
        File.WriteAllText(Temp["config.json"], $$"""{"a": {{open}}{{values}}{{close}}}""");
        Errors.Expect(MergeError.InvalidModel, () => JsonFile.Read(Temp["config.json"], MergeError.InvalidModel),
            "more than 524288 values");
    }

    [Theory]
    [InlineData("{{\"a\":{{\"dtype\":\"U8\",\"shape\":[{0}1],\"data_offsets\":[0,1]}}}}", "1,", 64, "a.shape has more than 64 numbers")]
    [InlineData("{{\"__metadata__\":{{\"a\":\"{0}\",\"b\":\"c\"}}}}", "x", 1 << 24, "__metadata__ has more than 16777216 bytes")]
    public void A_header_has_what_fits_into_memory(string header, string repeated, int times, string said)
    {
        var json = string.Format(null, header, string.Concat(Enumerable.Repeat(repeated, times)));
        File.WriteAllBytes(Temp["x.safetensors"], [.. BitConverter.GetBytes((long)json.Length), .. Encoding.UTF8.GetBytes(json), 1]);
        Errors.Expect(MergeError.InvalidSafetensors, () => SafetensorsFile.Open(Temp["x.safetensors"]), said);
    }

    [Theory]
    [InlineData("")]
    [InlineData("[]")]
    [InlineData("""{"quant_type": "nf4", "quant_type": "fp4"}""")]
    [InlineData("""{"quant_type": "\ud800"}""")]
    [InlineData("""{"quant_type": "nf4", "blocksize": 1e400}""")]
    public void Json_in_a_weight_file_is_read_or_refused(string json)
    {
        Errors.Expect(MergeError.InvalidModel, () => QuantState.Parse(Encoding.UTF8.GetBytes(json), "x"), "'x' cannot be read");
        var header = new JsonObject
        {
            ["__metadata__"] = new JsonObject { ["lora_adapter_metadata"] = json[..^Math.Min(json.Length, 1)] },
            ["text_encoder.q.lora_A.weight"] = JsonNode.Parse("""{"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}"""),
        }.ToJsonString();
        File.WriteAllBytes(Temp["x.safetensors"], [.. BitConverter.GetBytes((long)header.Length), .. Encoding.UTF8.GetBytes(header), 1]);
        Errors.Expect(MergeError.InvalidAdapter, () => AdapterDirectory.Open(Temp.Path), "'lora_adapter_metadata' of");
    }

    [Fact]
    public void A_base_whose_record_is_too_long_for_another_one_is_refused()
    {
        TinyModel.Base(Temp["base"], TinyTensor.Random("a.weight", [2, 2], 1));
        File.WriteAllText(Temp["base/merge.json"], $$"""{"a": [{{string.Concat(Enumerable.Repeat("1234567890,", 450_000))}}1]}""");
        Errors.Expect(MergeError.InvalidModel,
            () => TinyModel.Save(TinyModel.WritePlan(TinyModel.Plan(Temp["base"])), Temp["out"]), "merge.json", "at most 8388608");
        Assert.False(Directory.Exists(Temp["out"]));
    }

    [Theory]
    [InlineData("m{0}", 1 << 17)]
    [InlineData("m{0}$", 1024)]
    public void Patterns_for_modules_have_a_number(string key, int most)
    {
        ModuleKeys Read(int count) => new(Enumerable.Range(0, count).Select(i => string.Format(null, key, i)), k => k,
            MergeError.InvalidAdapter, k => $"the key '{k}'", null);
        Assert.Equal(most - 1, Read(most).Find($"x.m{most - 1}"));
        Errors.Expect(MergeError.InvalidAdapter, () => Read(most + 1), $"the key 'm{most}", "is one too many", $"{most}");
    }

    [Fact]
    public void A_buffer_beyond_what_can_be_had_is_refused() =>
        Errors.Expect(MergeError.DoesNotFit, () => new NativeBuffer(1L << 31).Dispose(), "in one piece", "rank");

    [Fact]
    public void Ids_are_numbers()
    {
        var texts = string.Join(", ", Enumerable.Range(0, 100_000).Select(i => $"\"{i}\": \"{i}\""));
        TinyTokenizer.Write(Temp.Path, "vocab.json", $"{{{texts}}}");
        Errors.Expect(MergeError.InvalidModel, () => ModelTokenizer.Read(Temp.Path), "the id of '0' is no number");
    }

    [Fact]
    public void A_vocabulary_has_no_more_tokens_than_any_model()
    {
        TinyTokenizer.Write(Temp.Path, "tekken.json", """{"config": {"default_vocab_size": 10000000000}}""");
        Errors.Expect(MergeError.InvalidModel, () => ModelTokenizer.Read(Temp.Path), "it has 10000000000 tokens; at most 16777216");
    }

    [Theory]
    [InlineData("(a+)+$", "takes longer than 1 s")]
    [InlineData("(", "cannot be used as a regular expression")]
    public void A_regular_expression_ends(string expression, string said)
    {
        var pattern = () => new ForeignPattern(expression, MergeError.InvalidModel, "'x' of a list").IsMatch($"{new string('a', 64)}!");
        Errors.Expect(MergeError.InvalidModel, () => pattern(), said, "'x' of a list");
    }

    [Fact]
    public void A_regular_expression_has_a_length() => Errors.Expect(
        MergeError.InvalidModel, () => _ = new ForeignPattern(new string('(', 20_000), MergeError.InvalidModel, "x"),
        "it has 20000 characters; at most 16384");

    [Fact]
    public void A_skip_list_with_an_endless_expression_ends()
    {
        var name = $"model.{new string('a', 64)}";
        var list = new ModuleList(["re:model.(a+)+b"], MergeError.InvalidModel, "the list");
        Errors.Expect(MergeError.InvalidModel, () => list.Names(name), "'re:model.(a+)+b' of the list", "takes longer");
    }

    [Theory]
    [InlineData("model.layers.0.mlp", true)]
    [InlineData("mlp.up_proj", true)]
    [InlineData("layers.0", true)]
    [InlineData("model.layers.0.mlp.up_proj", true)]
    [InlineData("layers.0.mlp.up", false)]
    [InlineData("ayers.0", false)]
    [InlineData("*.mlp", true)]
    [InlineData("re:.*up_proj$", true)]
    [InlineData("re:up_proj", false)]
    public void A_list_names_modules_by_whole_parts_of_their_path(string entry, bool names) => Assert.Equal(
        names, new ModuleList([entry], MergeError.InvalidModel, "the list").Names("model.layers.0.mlp.up_proj"));

    [Fact]
    public void Links_that_lead_around_are_not_followed()
    {
        Directory.CreateSymbolicLink(Temp["a"], ".");
        Directory.CreateSymbolicLink(Temp["b"], ".");
        Errors.Expect(MergeError.InvalidAdapter, () => AdapterDirectory.Open(Temp.Path), "it has no adapter_config.json");
        File.WriteAllText(Temp["adapter_config.json"], """{"peft_type": "LORA"}""");
        Errors.Expect(MergeError.InvalidAdapter, () => AdapterDirectory.Open(Temp.Path), "has neither adapter_model.safetensors");
        Assert.Empty(ModelFiles.Tokenizer(Temp.Path));
    }
}
