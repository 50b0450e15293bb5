namespace UnslothMerge.Tests.Safetensors;

public sealed class CheckpointTests : FileTests
{
    private static readonly TinyTensor A = TinyTensor.F32("a", [1], 1);
    private static readonly TinyTensor B = TinyTensor.F32("b", [1], 2);

    [Theory]
    [InlineData("../model-00001-of-00001.safetensors")]
    [InlineData("..\\\\model.safetensors")]
    [InlineData("sub/model.safetensors")]
    [InlineData("/etc/passwd")]
    [InlineData("C:model.safetensors")]
    [InlineData("C:\\\\model.safetensors")]
    [InlineData("..")]
    [InlineData(".")]
    [InlineData("")]
    [InlineData("x\\u0000y")]
    public void A_shard_outside_the_directory_is_refused(string shard)
    {
        Index(Temp, """{"weight_map":{"a":"SHARD"}}""".Replace("SHARD", shard, StringComparison.Ordinal));
        Errors.Expect(MergeError.InvalidModel, () => Checkpoint.Open(Temp.Path), "'a'");
    }

    [Theory]
    [InlineData("")]
    [InlineData("[]")]
    [InlineData("{}")]
    [InlineData("""{"weight_map":[]}""")]
    [InlineData("""{"weight_map":{"a":1}}""")]
    [InlineData("""{"weight_map":{"a":null}}""")]
    [InlineData("""{"weight_map":{"a":"1.safetensors","a":"1.safetensors"}}""")]
    [InlineData("""{"weight_map":{"a":"1.safetensors"},"weight_map":{}}""")]
    public void A_broken_index_is_named(string json)
    {
        TinyModel.WriteFile(Temp["1.safetensors"], A);
        Index(Temp, json);
        Errors.Expect(() => Checkpoint.Open(Temp.Path), ShardIndex.FileName);
    }

    [Fact]
    public void A_complete_set_of_shards_needs_no_index()
    {
        using var directory = new TemporaryDirectory();
        TinyModel.WriteFile(directory["model-00001-of-00002.safetensors"], A);
        TinyModel.WriteFile(directory["model-00002-of-00002.safetensors"], B);
        Assert.Equal(["a", "b"], Checkpoint.Open(directory.Path).Tensors.Select(t => t.Name));
        File.Delete(directory["model-00001-of-00002.safetensors"]);
        Assert.Equal(["model-00001-of-00002.safetensors"], Assert.Throws<MergeException>(() => Checkpoint.Open(directory.Path)).Details);
    }

    [Theory]
    [InlineData("\uFEFF{\"a\":[{\"b\":1,\"b\":1}],\"c\":2}", null)]
    [InlineData("{\"a\":1,\"a\":2}", "'a' occurs twice")]
    [InlineData("{\"error\":\"no access\"}", "no access")]
    [InlineData("<!DOCTYPE html><html>", "HTML")]
    [InlineData("version https://git-lfs.github.com/spec/v1\n", "git lfs pull")]
    [InlineData("", "empty")]
    public void A_config_that_is_none_is_named(string text, string? reason)
    {
        using var directory = new TemporaryDirectory();
        File.WriteAllText(directory["config.json"], text);
        var read = () => JsonFile.Read(directory["config.json"], MergeError.InvalidModel);
        if (reason is null)
        {
            Assert.Equal("""{"a":[{"b":1}],"c":2}""", read().ToJsonString());
        }
        else
        {
            Assert.Contains(reason, Assert.Throws<MergeException>(read).Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("diffusion_pytorch_model.safetensors", "diffusers")]
    [InlineData("model_index.json", "diffusers")]
    [InlineData("consolidated.00.pth", "consolidated.00.pth")]
    [InlineData("x.gguf", "GGUF")]
    public void What_is_there_instead_of_weights_is_named(string file, string reason)
    {
        File.WriteAllText(Temp[file], "");
        Errors.Expect(() => Checkpoint.Open(Temp.Path), reason);
    }

    [Fact]
    public void A_variant_is_read_where_it_is_the_only_one()
    {
        TinyModel.WriteFile(Temp["model.fp16.safetensors"], A);
        Assert.Equal("a", Assert.Single(Checkpoint.Open(Temp.Path).Tensors).Name);

        File.Move(Temp["model.fp16.safetensors"], Temp["model.fp16-00001-of-00001.safetensors"]);
        File.WriteAllText(Temp["model.safetensors.index.fp16.json"],
            """{"weight_map":{"a":"model.fp16-00001-of-00001.safetensors"}}""");
        Assert.Single(Checkpoint.Open(Temp.Path).Tensors);

        TinyModel.WriteFile(Temp["model.non-ema.safetensors"], B);
        Errors.Expect(() => Checkpoint.Open(Temp.Path), "fp16, non-ema");

        TinyModel.WriteFile(Temp["model.safetensors"], A, B);
        Assert.Equal(2, Checkpoint.Open(Temp.Path).Tensors.Count);
    }

    [Fact]
    public void A_missing_shard_is_named()
    {
        TinyModel.WriteFile(Temp["1.safetensors"], A);
        Index(Temp, """{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}""");
        Assert.Equal(["2.safetensors"], Assert.Throws<MergeException>(() => Checkpoint.Open(Temp.Path)).Details);
    }

    [Fact]
    public void A_tensor_that_is_not_where_the_index_says_is_named()
    {
        TinyModel.WriteFile(Temp["1.safetensors"], A);
        TinyModel.WriteFile(Temp["2.safetensors"], B);
        Index(Temp, """{"weight_map":{"a":"2.safetensors","b":"2.safetensors","c":"1.safetensors"}}""");
        Assert.Equal(["a (in 2.safetensors)", "c (in 1.safetensors)"],
            Assert.Throws<MergeException>(() => Checkpoint.Open(Temp.Path)).Details);
    }

    [Fact]
    public void A_tensor_in_two_shards_is_named()
    {
        TinyModel.WriteFile(Temp["1.safetensors"], A, B);
        TinyModel.WriteFile(Temp["2.safetensors"], B);
        Index(Temp, """{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}""");
        Errors.Expect(() => Checkpoint.Open(Temp.Path), "'b' is in both '1.safetensors' and '2.safetensors'");
    }

    [Fact]
    public void Shards_are_read_in_the_order_of_their_names()
    {
        TinyModel.WriteFile(Temp["2.safetensors"], A);
        TinyModel.WriteFile(Temp["1.safetensors"], B);
        Index(Temp, """{"weight_map":{"a":"2.safetensors","b":"1.safetensors"}}""");
        Assert.Equal(["b", "a"], Checkpoint.Open(Temp.Path).Tensors.Select(t => t.Name));
    }

    [Fact]
    public void Of_several_bad_shards_the_first_is_named()
    {
        string[] shards = [.. Enumerable.Range(1, 40).Select(i => $"{i:D2}.safetensors")];
        Array.ForEach(shards, s => File.WriteAllText(Temp[s], "no header"));
        File.WriteAllText(Temp[ShardIndex.FileName], ShardIndex.Text(shards.Select(s => KeyValuePair.Create(s, s)), 1, 1));
        Errors.Expect(() => Checkpoint.Open(Temp.Path), "01.safetensors");
    }

    [Theory]
    [InlineData("""{"weight_map":{"a":"1.safetensors","a":"1.safetensors"}}""", "'a' occurs twice")]
    [InlineData("""{"weight_map":{"a":3}}""", "'a' has no shard")]
    [InlineData("""{"weight_map":{"a":["1.safetensors"]}}""", "'a' has no shard")]
    [InlineData("""{"weight_map":[]}""", "not one object")]
    [InlineData("""[{"weight_map":{"a":"1.safetensors"}}]""", "not an object")]
    [InlineData("""{"metadata":{"weight_map":{"a":"1.safetensors"}}}""", "no weight_map")]
    [InlineData("""{"weight_map":{"a":"1.safetensors"}""", "not a valid index")]
    public void An_index_that_is_none_is_refused(string json, string message)
    {
        TinyModel.WriteFile(Temp["1.safetensors"], A);
        Index(Temp, json);
        Errors.Expect(() => Checkpoint.Open(Temp.Path), message);
    }

    /// <summary>An index is read in parts of 64 KiB; a name may be longer.</summary>
    [Fact]
    public void Entries_lie_across_the_parts_of_an_index()
    {
        var map = Enumerable.Range(0, 3000).Append(100_000_000)
            .ToDictionary(i => $"{i}{new string('é', (i % 200) + (i / 1000))}", i => $"{i % 7}.x");
        File.WriteAllText(Temp[ShardIndex.FileName], "\uFEFF" + ShardIndex.Text(map, 1, 1));
        Assert.Equal(map.OrderBy(e => e.Key, StringComparer.Ordinal), ShardIndex.Read(Temp[ShardIndex.FileName]));
    }

    [Fact]
    public void An_index_is_written_as_the_hub_writes_it()
    {
        var text = ShardIndex.Text([new("b", "2.safetensors"), new("a\"é", "1.safetensors")], 12, 3);
        Assert.Equal(
            "{\n  \"metadata\": {\n    \"total_parameters\": 3,\n    \"total_size\": 12\n  },\n  \"weight_map\": {\n    \"a\\\"é\": " +
            "\"1.safetensors\",\n    \"b\": \"2.safetensors\"\n  }\n}\n", text);
    }

    private static void Index(TemporaryDirectory directory, string json) => File.WriteAllText(directory[ShardIndex.FileName], json);
}
