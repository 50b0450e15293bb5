using UnslothMerge.Tests.Tokenizers;

namespace UnslothMerge.Tests.Verification;

/// <summary>Every damage that a saved model can have is found, by the check that it belongs to.</summary>
public sealed class DamageTests : FileTests
{
    private const string Changed = "model.layers.1.mlp.up_proj.weight";
    private const string Untouched = "model.layers.1.input_layernorm.weight";

    private static readonly string Base = new GoldenCase("lora-all-linear").Base;

    // What is done to a saved model, the check that must fail, and the tensors that it must name.
    private static readonly Dictionary<string, (string Check, Action<string> Do, string[]? Tensors)> Damages = new()
    {
        ["a flipped byte of a merged tensor"] = ("Merged", o => Damage.Flip(o, Changed, 27), [Changed]),
        ["a flipped byte of an untouched tensor"] = ("Untouched", o => Damage.Flip(o, Untouched, 27), [Untouched]),
        ["a missing delta"] = ("Merged", o => Damage.Values(o, Changed, _ => Damage.Read(Base, Changed)), [Changed]),
        ["a transposed delta"] = ("Merged", o => Damage.Values(o, Changed, values =>
        {
            var (rows, columns, @base) = (26, 20, Damage.Read(Base, Changed));
            return [.. @base.Select((b, i) => (i % rows * columns) + (i / rows) is var j ? b + values[j] - @base[j] : 0)];
        }), [Changed]),
        ["NaN"] = ("Merged", o => Damage.Values(o, Changed, values => [.. values.Select((v, i) => i == 5 ? float.NaN : v)]), null),
        ["an infinity"] =
            ("Merged", o => Damage.Values(o, Changed, values => [.. values.Select((v, i) => i == 5 ? float.PositiveInfinity : v)]), null),
        ["another dtype"] =
            ("DType", o => Damage.Rewrite(o, t => t.Name == Changed ? t with { Type = TensorType.F16 } : t), [Changed]),
        ["a missing tensor"] = ("Names", o => Damage.Rewrite(o, t => t.Name == Untouched ? null : t), [Untouched]),
        ["a tensor of another name"] = ("Names",
            o => Damage.Rewrite(o, t => t.Name == Untouched ? t with { Name = "model.layers.1.norm" } : t),
            [Untouched, "model.layers.1.norm"]),
        ["a missing config"] = ("Config", o => File.Delete(Path.Combine(o, "config.json")), null),
        ["a truncated file"] = ("Files", o =>
        {
            using var stream = File.Open(Path.Combine(o, "model.safetensors"), FileMode.Open);
            stream.SetLength(stream.Length - 1);
        }, null),
    };

    // The same for a model of several shards.
    private static readonly Dictionary<string, (string[] Checks, Action<string> Do)> ShardDamages = new()
    {
        ["swapped shards"] = (["Index"], o =>
        {
            File.Move(Shards(o)[0], o + "/kept");
            File.Move(Shards(o)[0], Path.Combine(o, "model-00001-of-00004.safetensors"));
            File.Move(o + "/kept", Path.Combine(o, "model-00002-of-00004.safetensors"));
        }),
        ["a missing shard"] = (["Files", "Names"], o => File.Delete(Shards(o)[1])),
        ["a shard left over"] = (["Files"], o => File.Copy(Shards(o)[0], Path.Combine(o, "model-00009-of-00009.safetensors"))),
        ["a stale index"] = (["Index"], o => Damage.Json(o, ShardIndex.FileName, json =>
        {
            var map = (JsonObject)json["weight_map"]!;
            map[map.First().Key] = map.Select(p => (string)p.Value!).First(s => s != (string)map.First().Value!);
        })),
        ["a wrong total size"] = (["Index"], o => Damage.Json(o, ShardIndex.FileName, json => json["metadata"]!["total_size"] = 7)),
    };

    public static TheoryData<string> Names => [.. Damages.Keys];

    public static TheoryData<string> ShardNames => [.. ShardDamages.Keys];

    private string Output => Temp["out"];

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void None_is_found_in_an_undamaged_model(bool full) => AssertPassed(Verify(Save(), full));

    [Theory, MemberData(nameof(Names))]
    public void Damage_is_found(string name)
    {
        var plan = Save();
        var (check, damage, tensors) = Damages[name];
        damage(Output);
        var failure = Failure(plan, check, full: name.StartsWith("a flipped", StringComparison.Ordinal));
        Assert.True(tensors is null || failure.Tensors.SequenceEqual(tensors), string.Join(' ', failure.Tensors));
        Assert.Contains(name == "a missing delta" ? "the change is missing" : "", failure.Detail, StringComparison.Ordinal);
    }

    [Theory, MemberData(nameof(ShardNames))]
    public void Damage_of_shards_is_found(string name)
    {
        var @case = new GoldenCase("sharded-all-linear");
        var plan = TinyModel.Plan(@case.Base, [.. @case.Adapters.Select(a => a.Path)]);
        TinyModel.Save(TinyModel.WritePlan(plan, shard: 5_000), Output);
        ShardDamages[name].Do(Output);
        Assert.All(ShardDamages[name].Checks, check => Failure(plan, check));
    }

    [Fact]
    public void A_shard_of_the_base_is_found()
    {
        var plan = Save();
        File.Copy(Path.Combine(Base, "model.safetensors"), Path.Combine(Output, "model.safetensors"), overwrite: true);
        Assert.Equal(14, Failure(plan, "Merged").Tensors.Length);
    }

    [Theory]
    [InlineData("lora-all-linear", Changed, 2, "2 times")]
    [InlineData("lora-all-linear", Changed, 1.01, "1.01 times")]
    [InlineData("lora-all-linear", Changed, -1, "-1 times")]
    [InlineData("rslora", null, 0, "")] // scaled by the rank instead of its root
    public void A_wrong_scale_is_found(string name, string? tensor, double scale, string said)
    {
        var plan = Save(name);
        var wrong = tensor is null ? plan.Tensors.First(t => t.Rank > 1) : plan.Tensors.Single(t => t.Name == tensor);
        scale = tensor is null ? 1 / Math.Sqrt(wrong.Rank!.Value) : scale;
        TinyModel.Save(TinyModel.WritePlan(plan, tensors: plan.Tensors.Select(t => t == wrong ? t.WithStrength(scale) : t)), Temp["other"]);
        File.Copy(Temp["other/model.safetensors"], Temp["out/model.safetensors"], overwrite: true);
        var failure = Failure(plan, "Merged");
        Assert.Equal([wrong.Name], failure.Tensors);
        Assert.Contains(said, failure.Detail, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("quantization_config", """{"quant_method": "bitsandbytes", "load_in_4bit": true}""")]
    [InlineData("vocab_size", "12345")]
    [InlineData("tie_word_embeddings", "true")]
    [InlineData("rope_theta", "1234.5")]
    public void A_wrong_config_is_found(string key, string value)
    {
        var plan = Save();
        Damage.Json(Output, "config.json", json => json[key] = JsonNode.Parse(value));
        Assert.Contains(key, Failure(plan, "Config").Detail, StringComparison.Ordinal);
    }

    [Fact]
    public void A_missing_or_too_large_tokenizer_is_found()
    {
        var model = new TinyModel(TinyTensor.Random("model.embed_tokens.weight", [TinyTokenizer.ByteLevel.Count, 4], 1),
            TinyTensor.Random("model.a.weight", [4, 4], 2)).WithLora(1, "model.a");
        TinyTokenizer.Fast(Temp["base"]);
        var plan = model.Plan(Temp);
        TinyModel.Save(TinyModel.WritePlan(plan), Output);
        Assert.True(Verify(plan).Single(r => r.Check == "Tokenizer").Passed);
        TinyTokenizer.Fast(Output, added: ["<more>"]);
        Failure(plan, "Tokenizer");
        File.Delete(Path.Combine(Output, "tokenizer.json"));
        Assert.Contains("tokenizer.json is missing", Failure(plan, "Tokenizer").Detail, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(2)]
    public void A_wrong_scale_of_what_is_quantized_is_found(double scale)
    {
        const string module = "model.layers.0.mlp.up_proj";
        var plan = new TinyModel(TinyTensor.Random(module + ".weight", [128, 128], 1)).WithLora(4, module).Plan(Temp);
        OutputRequest[] requests = [new FourBitRequest(FourBitCodes.NF4, true, 64, null), new Fp8Request(Fp8Strategy.Block)];
        foreach (var request in requests)
        {
            var (right, wrong) = (Temp[request.GetType().Name], Temp[$"{request.GetType().Name}-wrong"]);
            TinyModel.Save(TinyModel.WritePlan(plan, quantization: request), right);
            AssertPassed(Verify(plan, full: true, right));
            TinyModel.Save(
                TinyModel.WritePlan(plan, quantization: request, tensors: plan.Tensors.Select(t => t.WithStrength(scale))), wrong);
            Assert.False(Verify(plan, full: true, wrong).Single(r => r.Check == "Merged").Passed);
        }
    }

    [Fact]
    public void A_change_below_the_resolution_is_said()
    {
        var weight = TinyTensor.BF16("model.a.weight", [8, 8], [.. Enumerable.Repeat((ushort)0x3f80, 64)]);
        var plan = new TinyModel(weight)
            .WithLora("model.a", [.. Enumerable.Repeat(1e-4f, 8)], [.. Enumerable.Repeat(1f, 8)]).Plan(Temp);
        TinyModel.Save(TinyModel.WritePlan(plan), Output);
        AssertPassed(Verify(plan));
        Assert.Equal([weight.Name], Verify(plan).Single(r => r.Check == "Resolution").Tensors);
    }

    private static string[] Shards(string output) =>
        [.. Directory.EnumerateFiles(output, "*.safetensors").Order(StringComparer.Ordinal)];

    private static void AssertPassed(IEnumerable<VerificationResult> results) =>
        Assert.All(results, r => Assert.True(r.Passed, r.Detail));

    private MergePlan Save(string name = "lora-all-linear") => GoldenMerge.Save(new GoldenCase(name), Output);

    private IReadOnlyList<VerificationResult> Verify(MergePlan plan, bool full = false, string? output = null) => ModelVerifier.Verify(
        plan, plan.Tensors, output ?? Output, new VerificationOptions(full, 2), null, TestContext.Current.CancellationToken);

    private VerificationResult Failure(MergePlan plan, string check, bool full = false)
    {
        var result = Verify(plan, full).Single(r => r.Check == check);
        Assert.False(result.Passed, result.Detail);
        return result;
    }
}
