using UnslothMerge.Tests.Tokenizers;

namespace UnslothMerge.Tests.Verification;

/// <summary>Every damage that a saved model can have is found, by the check that it belongs to.</summary>
public sealed class DamageTests : IDisposable
{
    private const string Changed = "model.layers.1.mlp.up_proj.weight";
    private const string Untouched = "model.layers.1.input_layernorm.weight";

    private readonly TemporaryDirectory _directory = new();

    private string Output => _directory["out"];

    public void Dispose() => _directory.Dispose();

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void NoneIsFoundInAnUndamagedModel(bool full) =>
        Assert.All(Verify(Save("lora-all-linear"), full), r => Assert.True(r.Passed, r.Detail));

    [Theory]
    [InlineData(Changed, "Merged")]
    [InlineData(Untouched, "Untouched")]
    public void OneFlippedByte(string tensor, string check)
    {
        var plan = Save("lora-all-linear");
        Damage.Flip(Output, tensor, 27);
        Assert.Equal([tensor], Failure(plan, check, full: true).Tensors);
    }

    [Fact]
    public void MissingDelta()
    {
        var plan = Save("lora-all-linear");
        var @base = Damage.Read(plan.Base.Path, Changed);
        Damage.Values(Output, Changed, _ => @base);
        Assert.Contains("the change is missing", Failure(plan, "Merged").Detail, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(2, "2 times")]
    [InlineData(1.01, "1.01 times")]
    [InlineData(-1, "-1 times")]
    public void WrongScale(double scale, string said)
    {
        var plan = Save("lora-all-linear");
        Rescale(plan, Changed, scale);
        Assert.Contains(said, Failure(plan, "Merged").Detail, StringComparison.Ordinal);
    }

    [Fact]
    public void ScalingByTheRankInsteadOfItsRoot()
    {
        var plan = Save("rslora");
        var tensor = plan.Tensors.First(t => t.Rank > 1);
        Rescale(plan, tensor.Name, 1 / Math.Sqrt(tensor.Rank!.Value));
        Assert.Equal([tensor.Name], Failure(plan, "Merged").Tensors);
    }

    [Fact]
    public void TransposedDelta()
    {
        var plan = Save("lora-all-linear");
        var @base = Damage.Read(plan.Base.Path, Changed);
        var (rows, columns) = (26, 20);
        Damage.Values(Output, Changed,
            values => [.. @base.Select((b, i) => (i % rows * columns) + (i / rows) is var j ? b + values[j] - @base[j] : 0)]);
        Assert.Equal([Changed], Failure(plan, "Merged").Tensors);
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    public void NotANumber(float value)
    {
        var plan = Save("lora-all-linear");
        Damage.Values(Output, Changed, values => [.. values.Select((v, i) => i == 5 ? value : v)]);
        Failure(plan, "Merged");
    }

    [Fact]
    public void SwappedShards()
    {
        var plan = Save("sharded-all-linear", shard: 5_000);
        var (first, second) = (Shards()[0], Shards()[1]);
        File.Move(first, $"{first}.kept");
        File.Move(second, first);
        File.Move($"{first}.kept", second);
        Failure(plan, "Index");
    }

    [Fact]
    public void AShardOfTheBase()
    {
        var plan = Save("lora-all-linear");
        File.Copy(Path.Combine(plan.Base.Path, "model.safetensors"), Path.Combine(Output, "model.safetensors"), overwrite: true);
        Assert.Equal(14, Failure(plan, "Merged").Tensors.Length);
    }

    [Fact]
    public void MissingShard()
    {
        var plan = Save("sharded-all-linear", shard: 5_000);
        File.Delete(Shards()[1]);
        Failure(plan, "Files");
        Failure(plan, "Names");
    }

    [Fact]
    public void ShardLeftOver()
    {
        var plan = Save("sharded-all-linear", shard: 5_000);
        File.Copy(Shards()[0], Path.Combine(Output, "model-00009-of-00009.safetensors"));
        Failure(plan, "Files");
    }

    [Fact]
    public void StaleIndex()
    {
        var plan = Save("sharded-all-linear", shard: 5_000);
        Damage.Json(Output, ShardIndex.FileName, json =>
        {
            var map = (JsonObject)json["weight_map"]!;
            map[map.First().Key] = map.Select(p => (string)p.Value!).First(s => s != (string)map.First().Value!);
        });
        Failure(plan, "Index");
    }

    [Fact]
    public void WrongTotalSize()
    {
        var plan = Save("sharded-all-linear", shard: 5_000);
        Damage.Json(Output, ShardIndex.FileName, json => json["metadata"]!["total_size"] = 7);
        Failure(plan, "Index");
    }

    [Theory]
    [InlineData("quantization_config", """{"quant_method": "bitsandbytes", "load_in_4bit": true}""")]
    [InlineData("vocab_size", "12345")]
    [InlineData("tie_word_embeddings", "true")]
    [InlineData("rope_theta", "1234.5")]
    public void WrongConfig(string key, string value)
    {
        var plan = Save("lora-all-linear");
        Damage.Json(Output, "config.json", json => json[key] = JsonNode.Parse(value));
        Assert.Contains(key, Failure(plan, "Config").Detail, StringComparison.Ordinal);
    }

    [Fact]
    public void MissingConfig()
    {
        var plan = Save("lora-all-linear");
        File.Delete(Path.Combine(Output, "config.json"));
        Failure(plan, "Config");
    }

    [Fact]
    public void WrongDType()
    {
        var plan = Save("lora-all-linear");
        Damage.Rewrite(Output, t => t.Name == Changed ? t with { Type = TensorType.F16 } : t);
        Assert.Equal([Changed], Failure(plan, "DType").Tensors);
    }

    [Fact]
    public void MissingTensor()
    {
        var plan = Save("lora-all-linear");
        Damage.Rewrite(Output, t => t.Name == Untouched ? null : t);
        Assert.Equal([Untouched], Failure(plan, "Names").Tensors);
    }

    [Fact]
    public void TensorOfAnotherName()
    {
        var plan = Save("lora-all-linear");
        Damage.Rewrite(Output, t => t.Name == Untouched ? t with { Name = "model.layers.1.norm" } : t);
        Assert.Equal([Untouched, "model.layers.1.norm"], Failure(plan, "Names").Tensors);
    }

    [Fact]
    public void TruncatedFile()
    {
        var plan = Save("lora-all-linear");
        using (var stream = File.Open(Path.Combine(Output, "model.safetensors"), FileMode.Open))
        {
            stream.SetLength(stream.Length - 1);
        }

        Failure(plan, "Files");
    }

    [Fact]
    public void MissingTokenizer()
    {
        var plan = SaveWithTokenizer();
        Assert.True(Verify(plan, full: false).Single(r => r.Check == "Tokenizer").Passed);
        File.Delete(Path.Combine(Output, "tokenizer.json"));
        Assert.Contains("tokenizer.json is missing", Failure(plan, "Tokenizer").Detail, StringComparison.Ordinal);
    }

    [Fact]
    public void TokenizerLargerThanTheEmbedding()
    {
        var plan = SaveWithTokenizer();
        TinyTokenizer.Fast(Output, added: ["<more>"]);
        Failure(plan, "Tokenizer");
    }

    [Theory]
    [InlineData(0)]
    [InlineData(2)]
    public void WrongScaleOfWhatIsQuantized(double scale)
    {
        var plan = TinyModel.Plan(
            TinyModel.Base(_directory["base"], TinyTensor.Random("model.layers.0.mlp.up_proj.weight", [128, 128], 1)),
            TinyModel.Lora(
                _directory["adapter"],
                4,
                TinyTensor.Random("base_model.model.model.layers.0.mlp.up_proj.lora_A.weight", [4, 128], 2),
                TinyTensor.Random("base_model.model.model.layers.0.mlp.up_proj.lora_B.weight", [128, 4], 3)));
        foreach (var (request, output)
            in new (OutputRequest, string)[] { (new FourBitRequest(FourBitCodes.NF4, true, 64, null), "nf4"),
                (new Fp8Request(Fp8Strategy.Block), "fp8") })
        {
            TinyModel.Save(UnslothMerge.Planning.WritePlan.Create(plan, plan.Tensors,
                new WriteOptions(null, 5_000_000_000) { Quantization = request }), _directory[output]);
            Assert.All(ModelVerifier.Verify(plan, plan.Tensors, _directory[output], new VerificationOptions(true, 2), null,
                TestContext.Current.CancellationToken), r => Assert.True(r.Passed, r.Detail));

            var rescaled = plan.Tensors.Select(t => t.WithStrength(scale)).ToList();
            TinyModel.Save(UnslothMerge.Planning.WritePlan.Create(plan, rescaled,
                new WriteOptions(null, 5_000_000_000) { Quantization = request }), _directory[$"{output}-wrong"]);
            var result = ModelVerifier.Verify(plan, plan.Tensors, _directory[$"{output}-wrong"], new VerificationOptions(true, 2), null,
                TestContext.Current.CancellationToken).Single(r => r.Check == "Merged");
            Assert.False(result.Passed, result.Detail);
        }
    }

    [Fact]
    public void ChangeBelowTheResolutionIsSaid()
    {
        var weight = TinyTensor.BF16("model.a.weight", [8, 8], [.. Enumerable.Repeat((ushort)0x3f80, 64)]);
        var plan = TinyModel.Plan(
            TinyModel.Base(_directory["base"], weight),
            TinyModel.Lora(_directory["adapter"], 1,
                TinyTensor.F32("base_model.model.model.a.lora_A.weight", [1, 8], [.. Enumerable.Repeat(1e-4f, 8)]),
                TinyTensor.F32("base_model.model.model.a.lora_B.weight", [8, 1], [.. Enumerable.Repeat(1f, 8)])));
        TinyModel.Save(TinyModel.WritePlan(plan), Output);
        var results = Verify(plan, full: false);
        Assert.All(results, r => Assert.True(r.Passed, r.Detail));
        Assert.Equal([weight.Name], results.Single(r => r.Check == "Resolution").Tensors);
    }

    private MergePlan Save(string name, long? shard = null)
    {
        if (shard is null)
        {
            return GoldenMerge.Save(new GoldenCase(name), Output);
        }

        var @case = new GoldenCase(name);
        var plan = TinyModel.Plan(@case.Base, [.. @case.Adapters.Select(a => a.Path)]);
        TinyModel.Save(TinyModel.WritePlan(plan, shard: shard.Value), Output);
        return plan;
    }

    private MergePlan SaveWithTokenizer()
    {
        var @base = TinyModel.Base(_directory["base"],
            TinyTensor.Random("model.embed_tokens.weight", [TinyTokenizer.ByteLevel.Count, 4], 1),
            TinyTensor.Random("model.a.weight", [4, 4], 2));
        TinyTokenizer.Fast(@base);
        var plan = TinyModel.Plan(@base,
            TinyModel.Lora(_directory["adapter"], 1, TinyTensor.Random("base_model.model.model.a.lora_A.weight", [1, 4], 3),
                TinyTensor.Random("base_model.model.model.a.lora_B.weight", [4, 1], 4)));
        TinyModel.Save(TinyModel.WritePlan(plan), Output);
        return plan;
    }

    private string[] Shards() => [.. Directory.EnumerateFiles(Output, "*.safetensors").Order(StringComparer.Ordinal)];

    // What the tensor would be with another factor on its delta.
    private void Rescale(MergePlan plan, string tensor, double scale)
    {
        var rescaled = plan.Tensors.Select(t => t.Name == tensor ? t.WithStrength(scale) : t).ToList();
        TinyModel.Save(UnslothMerge.Planning.WritePlan.Create(plan, rescaled, new WriteOptions(null, 5_000_000_000)), _directory["other"]);
        File.Copy(Path.Combine(_directory["other"], "model.safetensors"), Path.Combine(Output, "model.safetensors"), overwrite: true);
    }

    private IReadOnlyList<VerificationResult> Verify(MergePlan plan, bool full) =>
        ModelVerifier.Verify(plan, plan.Tensors, Output, new VerificationOptions(full, 2), null, TestContext.Current.CancellationToken);

    private VerificationResult Failure(MergePlan plan, string check, bool full = false)
    {
        var result = Verify(plan, full).Single(r => r.Check == check);
        Assert.False(result.Passed, result.Detail);
        return result;
    }
}
