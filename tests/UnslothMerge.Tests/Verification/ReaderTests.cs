using System.Text.RegularExpressions;

namespace UnslothMerge.Tests.Verification;

/// <summary>A quantized model that its readers would not load as it is meant is found out.</summary>
public sealed partial class ReaderTests : IDisposable
{
    private const string Layer = "model.layers.0.";

    private readonly TemporaryDirectory _directory = new();

    private string Output => _directory["out"];

    public void Dispose() => _directory.Dispose();

    public static TheoryData<string> Methods => ["4-bit", "channel"];

    [Theory]
    [MemberData(nameof(Methods))]
    public void Nothing_is_found_in_what_is_saved(string method) => Assert.True(Verify(Save("lora-all-linear", method)).Passed);

    [Theory]
    [MemberData(nameof(Methods))]
    public void Codes_of_an_embedding(string method)
    {
        var plan = Save("lora-all-linear", method);
        Move($"{Layer}mlp.down_proj.weight", "model.embed_tokens.weight");
        Assert.Contains("model.embed_tokens.weight has codes, but", Failure(plan), StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Methods))]
    public void Linear_layer_without_codes_that_is_not_named(string method)
    {
        var plan = Save("lora-all-linear", method);
        MakePlain(plan, $"{Layer}mlp.down_proj.weight");
        Assert.Contains("down_proj.weight has no codes, but the skip list does not name", Failure(plan), StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Methods))]
    public void Codes_of_what_the_skip_list_names(string method)
    {
        var plan = Save("lora-all-linear", method);
        Skip(method, $"{Layer}mlp.down_proj");
        Assert.Contains("down_proj.weight has codes, but the skip list names", Failure(plan), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("[]")]
    [InlineData("[\"x\"]")]
    [InlineData("[0]")]
    public void Sizes_of_blocks_that_are_none(string sizes)
    {
        var plan = Save("lora-all-linear", "channel");
        Damage.Json(Output, "config.json", json => json["quantization_config"]!["weight_block_size"] = JsonNode.Parse(sizes));
        Assert.True(Verify(plan).Passed);
    }

    [Fact]
    public void Empty_entry()
    {
        var plan = Save("lora-all-linear", "4-bit");
        Skip("4-bit", "");
        Assert.Contains("an empty entry", Failure(plan), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("lora-all-linear", $"{Layer}self_attn.k_proj")]
    [InlineData("lora-all-linear", $"{Layer}mlp.up_proj")]
    [InlineData("moe-qwen3-per-expert", $"{Layer}mlp.experts.2.down_proj")]
    public void A_part_of_what_vllm_joins(string name, string module)
    {
        var plan = Save(name, "channel");
        MakePlain(plan, $"{module}.weight");
        Skip("channel", module);
        Assert.Contains($"{module}.weight has no codes, but", Failure(plan), StringComparison.Ordinal);
    }

    [Fact]
    public void Codes_of_what_transformers_keeps_in_fp32()
    {
        var plan = Save("t5", "channel");
        var names = Checkpoint.Open(Output).Tensors.Select(t => t.Name).ToList();
        var codes = names.First(n => n.EndsWith("_scale", StringComparison.Ordinal) && !n.Contains(".wo.", StringComparison.Ordinal));
        Move(codes[..^"_scale".Length], names.First(n => n.EndsWith(".wo.weight", StringComparison.Ordinal)));
        Assert.Contains(".wo in fp32", Failure(plan), StringComparison.Ordinal);
    }

    private MergePlan Save(string name, string method)
    {
        var @case = new GoldenCase(name);
        var plan = TinyModel.Plan(@case.Base, [.. @case.Adapters.Select(a => a.Path)]);
        TinyModel.Save(UnslothMerge.Planning.WritePlan.Create(plan, plan.Tensors, new WriteOptions(null, 5_000_000_000)
        {
            Quantization = method == "4-bit" ? new FourBitRequest(null, null, null, null) : new Fp8Request(Fp8Strategy.Channel),
        }), Output);
        return plan;
    }

    // Gives a tensor the codes of another, which becomes what that was.
    private void Move(string from, string to) => Damage.Rewrite(Output, t => t with
    {
        Name = t.Name == to ? from : Companion(from).Replace(t.Name, to),
    });

    private static Regex Companion(string tensor) => new($@"^{Regex.Escape(tensor)}(?=$|_scale$|\.)");

    private void MakePlain(MergePlan plan, string tensor)
    {
        var shape = plan.Tensors.Single(t => t.Name == tensor).Shape;
        var plain = new TinyTensor(tensor, TensorType.BF16, [.. shape], new byte[shape.Count() * 2]);
        Damage.Rewrite(Output, t => Companion(tensor).IsMatch(t.Name) ? null : t, _ => plain);
    }

    private void Skip(string method, string module) => Damage.Json(Output, "config.json", json =>
    {
        var (quantization, key) = ((JsonObject)json["quantization_config"]!, method == "4-bit" ? "llm_int8_skip_modules" : "ignore");
        quantization[key] = new JsonArray([.. (quantization[key] as JsonArray ?? ["lm_head"]).Select(e => e!.DeepClone()), module]);
    });

    private VerificationResult Verify(MergePlan plan) =>
        ModelVerifier.Verify(plan, plan.Tensors, Output, new VerificationOptions(false, 2), null, TestContext.Current.CancellationToken)
            .Single(r => r.Check == "Reader");

    private string Failure(MergePlan plan)
    {
        var result = Verify(plan);
        Assert.False(result.Passed, result.Detail);
        return result.Detail;
    }
}
