namespace UnslothMerge.Tests.Formats;

/// <summary>FP8 outputs against a calculation of their own, in double.</summary>
public sealed class Fp8OutputTests : FileTests
{
    // The finite positive numbers of E4M3 in the order of their codes.
    private static readonly double[] Numbers =
        [.. Enumerable.Range(0, 0x7F).Select(c => c < 8 ? Math.ScaleB(c, -9) : Math.ScaleB(8 + (c & 7), (c >> 3) - 10))];

    private static readonly string[] Quantized = ["model.layers.0.mlp.down_proj.weight", "model.layers.0.self_attn.q_proj.weight"];

    [Theory]
    [InlineData(Fp8Strategy.Block)]
    [InlineData(Fp8Strategy.Channel)]
    internal void Codes_are_the_nearest_to_the_merge_over_the_scale_of_their_block(Fp8Strategy strategy) =>
        Gen.Select(Gen.Int[1, 300], Gen.Int[1, 300], Gen.Int).Sample((rows, columns, seed) =>
        {
                using var directory = new TemporaryDirectory();
            var random = new Random(seed);
            var weight = Weight(rows, columns, random);
            var (a, b) = (Array.ConvertAll(new float[columns], _ => (float)random.NextDouble()),
                Array.ConvertAll(new float[rows], _ => random.Next(3) == 0 ? 0 : (float)random.NextDouble() * 1e-2f));
            var plan = new TinyModel(TinyTensor.F32(Quantized[0], [rows, columns], weight))
                .WithLora("model.layers.0.mlp.down_proj", a, b).Plan(directory);
            var result = Assert.Single(TinyModel.Requantize(plan, directory["out"], new Fp8Request(strategy)));

            using var files = new InputFiles();
            var checkpoint = Checkpoint.Open(directory["out"]);
            var codes = files.ReadAll(checkpoint.Find(Quantized[0])!);
            var (scale, height, width) = strategy == Fp8Strategy.Block
                ? (checkpoint.Find($"{Quantized[0]}_scale_inv")!, 128, 128) : (checkpoint.Find($"{Quantized[0]}_scale")!, 1, columns);
            var scales = strategy == Fp8Strategy.Block
                ? files.ReadAll<float>(scale)
                : [.. files.ReadAll<ushort>(scale).Select(s => BitConverter.UInt32BitsToSingle((uint)s << 16))];
            Assert.Equal([(rows + height - 1) / height, (columns + width - 1) / width], scale.Shape);

            var (lost, all) = (0.0, 0.0);
            for (var block = 0; block < scales.Length; block++)
            {
                var (row, column) = (block / (int)scale.Shape[1] * height, block % (int)scale.Shape[1] * width);
                var elements = (from r in Enumerable.Range(row, Math.Min(height, rows - row)) from c
                    in Enumerable.Range(column, Math.Min(width, columns - column)) select (r * columns) + c).ToList();
                double Merged(int e) => weight[e] + ((double)b[e / columns] * a[e % columns]);
                var largest = elements.Max(e => Math.Abs(Merged(e)));

                // A scale has the precision of its dtype; a block of zeros has one that a loader can divide by.
                Assert.Equal(largest > 0 ? largest / 448 : strategy == Fp8Strategy.Block ? 1 : 0.0078125, scales[block],
                    largest / 448 * (strategy == Fp8Strategy.Block ? 1e-6 : 0.004));
                foreach (var e in elements)
                {
                    var wanted = Merged(e) / scales[block];
                    var actual = Numbers[codes[e] & 0x7F] * (codes[e] < 0x80 ? 1 : -1);
                    var nearest = Numbers.Min(n => Math.Abs(n - Math.Abs(wanted)));

                    // The merge is a sum in fp32, which may have cancelled.
                    var slack = 2e-7 * (Math.Abs(weight[e]) + Math.Abs((double)b[e / columns] * a[e % columns])) / scales[block];
                    Assert.True(Math.Abs(actual - wanted) <= nearest + (1e-5 * Math.Abs(wanted)) + slack, $"{wanted} became {actual}");
                    lost += Math.Pow((actual * scales[block]) - Merged(e), 2);
                    all += Math.Pow(Merged(e), 2);
                }
            }

            Assert.Equal(all == 0 ? 0 : Math.Sqrt(lost / all), result.Figures.RelativeError!.Value, 1e-3);
        },
        iter: 8, threads: 1);

    [Theory]
    [InlineData(null)]
    [InlineData(Fp8Strategy.Channel)]
    internal void Only_linear_layers_of_the_language_model_are_quantized_and_loaders_are_told_which_are_not(Fp8Strategy? strategy)
    {
        string[] kept =
        [
            "lm_head.weight", "model.embed_tokens.weight", "model.layers.0.mlp.gate.weight", "model.layers.0.mlp.experts.gate_up_proj",
            "model.visual.blocks.0.attn.qkv.weight",
        ];
        var model = new TinyModel(
        [
            .. Quantized.Concat(kept).Select((n, i) =>
                TinyTensor.BF16(n, n.Contains("experts", StringComparison.Ordinal) ? [2, 4, 2] : [4, 4],
                    Enumerable.Repeat((ushort)(0x3F80 + i), 16).ToArray())),
            TinyTensor.BF16("model.norm.weight", [4], 1, 2, 3, 4),
        ]);
        TinyModel.Requantize(model.Plan(Temp), Temp["out"], new Fp8Request(strategy));

        var stored = Checkpoint.Open(Temp["out"]);
        Assert.Equal(Quantized, stored.Tensors.Where(t => t.Type == TensorType.F8_E4M3).Select(t => t.Name));
        Assert.All(kept, n => Assert.Equal(TensorType.BF16, stored.Find(n)!.Type));
        var config = ModelDirectory.Open(Temp["out"]).Config.Quantization!;
        Assert.Equal(
            [
                "lm_head", strategy is null ? "model.layers.0.mlp.experts" : "model.layers.0.mlp.gate",
                strategy is null ? "model.layers.0.mlp.gate" : "model.visual.blocks.0.attn.qkv",
                strategy is null ? "model.visual.blocks.0.attn.qkv" : @"re:.*layers\.0\.mlp\.experts\..*",
            ],
            config.Strings(strategy is null ? "modules_to_not_convert" : "ignore").Order(StringComparer.Ordinal));
        Assert.Equal(strategy is null ? "fp8" : "compressed-tensors", config.String("quant_method"));
        if (strategy is null)
        {
            Assert.Equal("[128,128]", config["weight_block_size"]!.ToJsonString());
        }
        else
        {
            var group = config["config_groups"]!["group_0"]!;
            Assert.Equal("channel", group["weights"]!["strategy"]!.GetValue<string>());
            Assert.True(JsonNode.DeepEquals(
                JsonNode.Parse(
                    """{"dynamic": true, "group_size": null, "num_bits": 8, "strategy": "token", "symmetric": true, "type": "float"}"""),
                    group["input_activations"]));
        }
    }

    [Fact]
    public void An_fp8_base_stays_as_it_is_unless_another_strategy_is_wanted()
    {
        var @base = Fixtures.Base("q-fp8-ragged");
        TinyModel.Requantize(TinyModel.Plan(@base), Temp["same"], new Fp8Request(null));
        Assert.Equal(TinyModel.Stored(@base), TinyModel.Stored(Temp["same"]));

        TinyModel.Requantize(TinyModel.Plan(@base), Temp["other"], new Fp8Request(Fp8Strategy.Channel));
        var (before, after) = (TinyModel.Values(@base), TinyModel.Values(Temp["other"]));
        Assert.Equal(before.Keys, after.Keys);
        foreach (var (name, values) in before)
        {
            var largest = values.Max(MathF.Abs);
            Assert.All(values.Zip(after[name]), p => Assert.Equal(p.First, p.Second, (0.0625f * Math.Abs(p.First)) + (0.01f * largest)));
        }
    }

    [Fact]
    public void What_the_base_keeps_in_16_bits_stays_so_and_is_named_in_full()
    {
        string[] names = ["lm_head.weight", .. Quantized, "model.layers.0.self_attn.o_proj.weight"];
        var plan = TinyModel.Quantized("""{"quant_method": "compressed-tensors", "ignore": ["lm_head", "re:.*o_proj"]}""",
            [.. names.Select((n, i) => TinyTensor.BF16(n, [1, 2], (ushort)(0x3F80 + i), 0x4000))]).Plan(Temp);
        TinyModel.Requantize(plan, Temp["fp8"], new Fp8Request(null));
        TinyModel.Requantize(plan, Temp["4bit"], new FourBitRequest(null, null, null, null));
        Assert.Equal(Quantized, Checkpoint.Open(Temp["fp8"]).Tensors.Where(t => t.Type == TensorType.F8_E4M3).Select(t => t.Name));
        Assert.Equal(Quantized,
            Checkpoint.Open(Temp["4bit"]).Tensors.Where(t => t.Name.EndsWith(".absmax", StringComparison.Ordinal))
            .Select(t => t.Name.Replace(".absmax", "", StringComparison.Ordinal)));
        string[] kept = ["lm_head", "model.layers.0.self_attn.o_proj"];
        Assert.Equal(kept,
            ModelDirectory.Open(Temp["fp8"]).Config.Quantization!.Strings("modules_to_not_convert").Order(StringComparer.Ordinal));
        Assert.Equal(kept, ModelDirectory.Open(Temp["4bit"]).Config.Quantization!.Strings("llm_int8_skip_modules"));
    }

    // Blocks of zeros, subnormal codes, numbers of either sign.
    private static float[] Weight(int rows, int columns, Random random)
    {
        var empty = random.Next(3) == 0;
        return [.. Enumerable.Range(0, rows * columns)
            .Select(i => empty && i / columns < 128 ? 0 : (float)((random.NextDouble() - 0.5) * Math.Pow(10, -random.Next(5))))];
    }
}
