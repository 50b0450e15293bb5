using System.IO.Compression;

namespace UnslothMerge.Tests.Planning;

/// <summary>Which matrices become codes, and what the readers are told of the others.</summary>
public sealed class LinearLayersTests
{
    private static readonly OutputRequest FourBit = new FourBitRequest(null, null, null, null);
    private static readonly OutputRequest Block = new Fp8Request(Fp8Strategy.Block);
    private static readonly OutputRequest Channel = new Fp8Request(Fp8Strategy.Channel);

    public static TheoryData<string> Classes => [.. AllClasses().Select(c => c.Key).Where((_, i) => i % 23 == 0)];

    // By the data, and by rules that are written a second time here: codes where readers swap, and every other linear layer named.
    [Theory]
    [MemberData(nameof(Classes))]
    public void Codes_are_where_readers_swap_and_every_other_linear_layer_is_named(string name)
    {
        using var directory = new TemporaryDirectory();
        var entry = AllClasses()[name]!.AsObject();
        string[] linear = [.. entry.Strings("linear").Select(One)], other = [.. entry.Strings("other").Select(One)];
        var @base = Write(directory["base"], name, [.. linear.Concat(other).Select(m => ($"{m}.weight", new long[] { 128, 2 }))]);
        foreach (var request in new[] { FourBit, Block, Channel })
        {
            WritePlan plan;
            try
            {
                plan = Plan(@base, request);
            }
            catch (MergeException e) when (e.Message.StartsWith("None of the", StringComparison.Ordinal))
            {
                continue;
            }

            var codes = Codes(plan);
            Assert.All(codes.Where(c => !c.Contains("c_", StringComparison.Ordinal)), c => Assert.Contains(c, linear));
            var list = Skips(plan);
            string[] skips = list ?? [.. entry.Strings("head"), .. ModelClass.Of(plan.Config).Tied
                .SelectMany(t => new[] { t.Key, t.Value }).Select(t => t.Replace(".weight", "", StringComparison.Ordinal))];
            bool Skipped(string m) => Array.Exists(skips, s => m == s || (request != Channel
                && (m.EndsWith(s, StringComparison.Ordinal) || Regex.IsMatch(m, $@"^(?:{s})(\.|$)"))));
            Assert.DoesNotContain("", skips);
            Assert.DoesNotContain(codes, Skipped);
            Assert.All(linear.Except(codes), m => Assert.True(Skipped(m), $"{m} is not in the list"));
        }

        static string One(string path) => path.Replace("*", "1", StringComparison.Ordinal);
    }

    [Fact]
    public void A_list_names_what_stays_in_16_bits_as_the_running_model_and_as_the_checkpoint_do()
    {
        using var directory = new TemporaryDirectory();
        var @base = Write(directory["base"], "LlavaForConditionalGeneration",
            ("language_model.model.layers.0.mlp.down_proj.weight", [128, 128]),
            ("vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight", [128, 128]),
            ("language_model.model.embed_tokens.weight", [128, 128]), ("language_model.lm_head.weight", [128, 128]));
        string[] expected =
        [
            "lm_head", "language_model.lm_head", "model.vision_tower.encoder.layers.0.mlp.fc1",
            "vision_tower.vision_model.encoder.layers.0.mlp.fc1",
        ];
        foreach (var request in new[] { FourBit, Block, Channel })
        {
            var plan = Plan(@base, request);
            Assert.Equal(["language_model.model.layers.0.mlp.down_proj"], Codes(plan));
            Assert.Equivalent(expected, Skips(plan), strict: true);
        }
    }

    // Readers rename `down_weight`, but not the scales beside it.
    [Fact]
    public void A_matrix_whose_stored_name_does_not_end_in_weight_stays_in_16_bits()
    {
        using var directory = new TemporaryDirectory();
        var @base = Write(directory["base"], "Inkling2LoopForCausalLM",
            ("model.llm.layers.0.controllers.k.down_weight", [128, 128]), ("model.llm.layers.0.attn.wq_du.weight", [128, 128]));
        foreach (var request in new[] { FourBit, Block, Channel })
        {
            var plan = Plan(@base, request);
            Assert.Equal(["model.llm.layers.0.attn.wq_du"], Codes(plan));
            Assert.Contains("model.layers.0.k_message_gate.down_proj", Skips(plan)!);
        }
    }

    [Theory]
    [InlineData(256, 128, 40, 256, "q k v gate up down")]
    [InlineData(256, 64, 64, 256, "gate up down")] // keys end within a block, and values begin there
    [InlineData(320, 128, 128, 256, "gate up down")]
    [InlineData(256, 128, 128, 320, "q k v down")]
    public void Blocks_do_not_reach_from_one_matrix_of_a_set_into_the_next(long q, long k, long v, long gate, string expected)
    {
        using var directory = new TemporaryDirectory();
        var shapes = new (string, long[])[]
        {
            ("self_attn.q_proj", [q, 128]), ("self_attn.k_proj", [k, 128]), ("self_attn.v_proj", [v, 128]),
            ("mlp.gate_proj", [gate, 128]), ("mlp.up_proj", [gate, 128]), ("mlp.down_proj", [100, gate]),
        };
        var @base = Write(directory["base"], "LlamaForCausalLM", [.. shapes.Select(s => ($"model.layers.0.{s.Item1}.weight", s.Item2))]);
        Assert.Equal(expected.Split(' ').Order(), Short(Plan(@base, Block)));
        Assert.Equal(6, Codes(Plan(@base, Channel)).Count);
        Assert.Null(Skips(Plan(@base, FourBit)));
    }

    [Theory]
    [InlineData("Phi3ForCausalLM", "mlp.gate_up_proj", 384, false)] // two matrices of 192 rows
    [InlineData("Phi3ForCausalLM", "mlp.gate_up_proj", 512, true)]
    [InlineData("Phi3ForCausalLM", "self_attn.qkv_proj", 384, true)]
    [InlineData("GPTNeoXForCausalLM", "attention.query_key_value", 384, false)] // regrouped by heads
    public void A_matrix_that_vllm_cuts_has_blocks_if_its_parts_are_whole_blocks(string @class, string module, long rows, bool isCodes)
    {
        using var directory = new TemporaryDirectory();
        var layer = @class[0] == 'G' ? "gpt_neox.layers.0" : "model.layers.0";
        var @base = Write(directory["base"], @class, ($"{layer}.{module}.weight", [rows, 128]),
            ($"{layer}.{(@class[0] == 'G' ? "mlp.dense_4h_to_h" : "mlp.down_proj")}.weight", [128, 128]));
        Assert.Equal(isCodes, Codes(Plan(@base, Block)).Contains($"{layer}.{module}"));
        Assert.Contains($"{layer}.{module}", Codes(Plan(@base, Channel)));
    }

    [Theory]
    [InlineData(128, true)]
    [InlineData(64, false)]
    public void All_matrices_of_a_layers_experts_are_codes_or_none(long rows, bool fit)
    {
        using var directory = new TemporaryDirectory();
        var names = from e in new[] { 0, 1 } from w in new[] { "w1", "w2", "w3" } select $"model.layers.0.block_sparse_moe.experts.{e}.{w}";
        var @base = Write(directory["base"], "MixtralForCausalLM",
        [
            ("model.layers.0.self_attn.o_proj.weight", [128, 128]),
            .. names.Select(n => ($"{n}.weight", n.EndsWith("w2", StringComparison.Ordinal) ? [100L, rows] : new[] { rows, 100 })),
        ]);
        Assert.Equal(fit ? 7 : 1, Codes(Plan(@base, Block)).Count);
        Assert.Equal(7, Codes(Plan(@base, Channel)).Count);
        Assert.Equal(!fit, Skips(Plan(@base, Block))!.Contains("model.layers.0.mlp.experts"));

        // transformers 5 loads no experts in 4 bits, older releases do.
        var plan = Plan(@base, FourBit);
        Assert.Single(Codes(plan));
        Assert.Contains("6 matrices of experts", plan.Layers!.Warning, StringComparison.Ordinal);
        Assert.Equal(["lm_head", "model.layers.0.mlp.experts", "model.layers.0.block_sparse_moe.experts"], Skips(plan)!);
        Assert.Equal(7, Codes(Plan(@base, FourBit with { Include = ["*.experts.*"] })).Count);
        Assert.Single(Codes(Plan(@base, Channel with { Exclude = ["w3"] })));
        Errors.Expect(() => Plan(@base, FourBit with { Exclude = ["experts.9"] }), "experts.9", "none of the 7 matrices");
    }

    [Fact]
    public void A_conv1d_has_the_codes_of_its_transpose()
    {
        using var directory = new TemporaryDirectory();
        const string name = "transformer.h.0.mlp.c_fc.weight";
        var (rows, columns) = (70, 260);
        ushort[] values =
            [.. Enumerable.Range(0, rows * columns).Select(i => (ushort)(0x3C00 + (i * 37 % 251) + (i % 3 == 0 ? 0x8000 : 0)))];
        ushort[] transposed = [.. Enumerable.Range(0, rows * columns).Select(i => values[(i % rows * columns) + (i / rows)])];
        var conv1d = Write(directory["gpt2"], "GPT2LMHeadModel", TinyTensor.BF16(name, [rows, columns], values));
        var linear = Write(directory["other"], "TinyForCausalLM", TinyTensor.BF16(name, [columns, rows], transposed));
        foreach (var block in new[] { 64, 1024 })
        {
            var request = new FourBitRequest(null, null, block, null);
            TinyModel.Requantize(TinyModel.Plan(conv1d), directory[$"a{block}"], request);
            TinyModel.Requantize(TinyModel.Plan(linear), directory[$"b{block}"], request);
            Assert.Equal(TinyModel.Stored(directory[$"b{block}"]), TinyModel.Stored(directory[$"a{block}"]));

            // It is read back as the class has it.
            var (back, stored) = (TinyModel.Values(directory[$"a{block}"])[name], TinyModel.Values(directory[$"b{block}"])[name]);
            Assert.Equal(back, stored.Select((_, i) => stored[(i % columns * rows) + (i / columns)]));
            var plan = TinyModel.Plan(conv1d);
            var checks = ModelVerifier.Verify(plan, plan.Tensors, directory[$"a{block}"], new VerificationOptions(Full: true, Workers: 2),
                null, TestContext.Current.CancellationToken);
            Assert.All(checks, c => Assert.True(c.Passed, c.Detail));
        }

        Errors.Expect(() => Plan(conv1d, Channel), "would be FP8", "Conv1D");
    }

    private static string Write(string directory, string @class, params (string Name, long[] Shape)[] tensors) =>
        Write(directory, @class, [.. tensors.Select(t => TinyTensor.BF16(t.Name, t.Shape, new ushort[t.Shape.Count()]))]);

    private static string Write(string directory, string @class, params TinyTensor[] tensors) => TinyModel.Base(directory,
        $$"""{"architectures": ["{{@class}}"], "model_type": "{{TransformersData.Find("classes", @class)?["type"]}}"}""", tensors);

    private static WritePlan Plan(string @base, OutputRequest request) =>
        TinyModel.WritePlan(TinyModel.Plan(@base), quantization: request);

    private static List<string> Codes(WritePlan plan) =>
        [.. plan.Tensors.Where(t => t.Sink.IsQuantized).Select(t => t.Tensor.Name.Replace(".weight", "", StringComparison.Ordinal))];

    private static IEnumerable<string> Short(WritePlan plan) =>
        Codes(plan).Select(c => c[(c.LastIndexOf('.') + 1)..].Replace("_proj", "", StringComparison.Ordinal)).Order();

    private static string[]? Skips(WritePlan plan) =>
        new[] { "llm_int8_skip_modules", "modules_to_not_convert", "ignore" }.Select(k => plan.Config.Quantization![k])
            .OfType<JsonArray>().Select(a => a.Select(v => (string)v!).ToArray()).FirstOrDefault();

    private static JsonObject AllClasses()
    {
        using var packed = typeof(ClassLinears).Assembly.GetManifestResourceStream("linears.json.gz")!;
        return JsonNode.Parse(new GZipStream(packed, CompressionMode.Decompress))!.AsObject();
    }
}
