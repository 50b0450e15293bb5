namespace UnslothMerge.Tests.Lora;

/// <summary>LoRA and its variants on every type of layer, compared with the formulas in float64.</summary>
public sealed class LoraLayerTests
{
    private const string Custom = """{ "model_type": "custom" }""";
    private const string Gpt2 = """{ "model_type": "gpt2", "tie_word_embeddings": false }""";

    public enum Layer
    {
        Linear,
        Conv1D,
        Embedding,
        Convolution,
    }

    // A norm of one value may be what is left of larger terms, and divides the others.
    private static readonly Gen<(int Seed, Layer Layer, int Out, int In, int Rank, bool Dora, bool RsLora, bool Second)> Cases =
        Gen.Select(Gen.Int, Gen.Enum<Layer>(), Gen.Int[1, 70], Gen.Int[2, 70], Gen.Int[1, 9], Gen.Bool, Gen.Bool, Gen.Bool);

    [Fact]
    public void EveryLayerTypeFollowsTheFormula() => Cases.Sample(
        c =>
        {
            var random = new Random(c.Seed);
            long[] kernel = c.Layer == Layer.Convolution ? [3, 2] : [];
            var inner = c.In * (int)kernel.Count();
            var (name, partA, partB) = c.Layer switch
            {
                Layer.Conv1D => ("h.0.mlp.c_fc", "lora_A.weight", "lora_B.weight"),
                Layer.Embedding => ("wte", "lora_embedding_A", "lora_embedding_B"),
                _ => ("h.0.proj", "lora_A.weight", "lora_B.weight"),
            };
            var transposed = c.Layer is Layer.Conv1D or Layer.Embedding;
            var weight = random.Numbers(transposed ? [c.In, c.Out] : [c.Out, c.In, .. kernel]);
            var a = random.Numbers([c.Rank, c.In, .. kernel]);
            var b = random.Numbers([c.Out, c.Rank, .. kernel.Select(_ => 1L)]);
            var magnitude = random.Scaled(3, c.Layer == Layer.Convolution ? [1, c.Out, 1, 1] : [c.Out]);
            var config = new JsonObject
                { ["r"] = c.Rank, ["lora_alpha"] = 2.5, ["use_rslora"] = c.RsLora, ["use_dora"] = c.Dora }.ToJsonString();
            var (firstA, firstB) = (random.Numbers([c.Rank, c.In, .. kernel]), random.Numbers([c.Out, c.Rank, .. kernel.Select(_ => 1L)]));
            var model = new TinyModel(Gpt2, (name + ".weight", weight));
            TinyTensor[] first = [(name + "." + partA, firstA), (name + "." + partB, firstB)];
            var merge = (c.Second ? model.With($$"""{"r": {{c.Rank}}}""", first) : model).With(config,
                [(name + "." + partA, a), (name + "." + partB, b),
                    .. c.Dora ? [(name + ".lora_magnitude_vector", magnitude)] : (TinyTensor[])[]]);

            var scaling = 2.5 / (c.RsLora ? Math.Sqrt(c.Rank) : c.Rank);
            double Old(int o, int i) => transposed ? weight[i, o] : weight[o, i];
            double New(int o, int i) => Old(o, i) + (scaling * Enumerable.Range(0, c.Rank).Sum(k => b[o, k] * a[k, i]));
            double First(int o, int i) => c.Second ? Enumerable.Range(0, c.Rank).Sum(k => firstB[o, k] * firstA[k, i]) / c.Rank : 0;
            var factors = Enumerable.Range(0, c.Out).Select(o =>
                c.Dora ? magnitude.Values[o] / Math.Sqrt(Enumerable.Range(0, inner).Sum(i => New(o, i) * New(o, i))) : 1).ToArray();
            Numbers.Near([.. weight.Values.Select((_, i) => transposed ? (o: i % c.Out, i: i / c.Out) : (o: i / inner, i: i % inner))
                .Select(at => factors[at.o] * (New(at.o, at.i) + First(at.o, at.i)))], merge.Merge()[name + ".weight"]);
        },
        iter: 60,
        threads: 1);

    [Theory]
    [InlineData(1, 3)]
    [InlineData(3, 1)]
    [InlineData(1, 1)]
    public void BlockDiagonalFactorsStandOnTheDiagonal(int blocksOfA, int blocksOfB)
    {
        var random = new Random(5);
        new TinyModel(Custom, ("mlp.up.weight", random.Numbers(12, 15))).With(
            $$"""{ "r": 6, "lora_alpha": 9, "use_bdlora": { "nblocks": 3, "match_strict": false, "target_modules_bd_a":""" +
            $$""" {{(blocksOfA > 1 ? "[\"up\"]" : "null")}}, "target_modules_bd_b": {{(blocksOfB > 1 ? "[\"up\"]" : "[]")}} } }""",
            -0.5,
            TinyTensor.Lora("mlp.up", random.Numbers(6, 15 / blocksOfA), random.Numbers(12, 6 / blocksOfB))).Verify();
    }

    [Theory]
    [InlineData(9, 5)]
    [InlineData(5, 9)]
    [InlineData(7, 7)]
    [InlineData(300, 40)]
    [InlineData(120, 120)]
    [InlineData(4, 200)]
    public void KasaDropsTheSmallestSingularComponents(int outputs, int inputs)
    {
        var random = new Random(outputs);
        new TinyModel(Custom, ("up.weight", random.Numbers(outputs, inputs))).With(
            """{ "r": 3, "lora_alpha": 6, "kasa_config": { "beta": 0.1 } }""",
            [.. TinyTensor.Lora("up", random.Numbers(3, inputs), random.Numbers(outputs, 3)), ("up.lora_diag", random.Numbers(3))])
            .Verify();
    }

    [Fact]
    public void KasaNeedsALargerWeightAndItsDiagonal()
    {
        var random = new Random(1);
        var (weight, pair) = (random.Numbers(4, 9), TinyTensor.Lora("up", random.Numbers(4, 9), random.Numbers(4, 4)));
        const string Config = """{ "r": 4, "kasa_config": { "beta": 0.1 } }""";
        new TinyModel(Custom, ("up.weight", weight)).With(Config, [.. pair, ("up.lora_diag", random.Numbers(4))])
            .Refused("more than 4 inputs and outputs");
        new TinyModel(Custom, ("up.weight", weight)).With(Config, pair).Refused("lora_diag");
    }

    [Fact]
    public void AnAttentionsOutputThatIsATargetItselfTakesItsDeltaOnce()
    {
        var random = new Random(4);
        var (inWeight, outWeight, a, b) = (random.Numbers(12, 4), random.Numbers(4, 4), random.Numbers(2, 4), random.Numbers(4, 2));
        var merged = new TinyModel(Custom, ("mha.in_proj_weight", inWeight), ("mha.out_proj.weight", outWeight))
            .With("""{"r": 2, "peft_version": "0.21.0"}""", TinyTensor.Lora("mha.out_proj", a, b)).Merge();
        Numbers.Near(Sum(outWeight, b, a, 0.5), merged["mha.out_proj.weight"]);
    }

    [Theory]
    [InlineData("0.21.2", 2)]
    [InlineData("0.21.9.dev0@abc", 2)]
    [InlineData("0.22.0", 1)]
    [InlineData("1.0", 1)]
    [InlineData(null, 2)]
    public void AttentionsOutputTakesItsDeltaAsOftenAsThatReleaseOfPeftAddedIt(string? version, int times)
    {
        var random = new Random(3);
        var (inWeight, outWeight, bias) = (random.Numbers(12, 4), random.Numbers(4, 4), random.Numbers(4));
        var (a, b, inA, inB, loraBias) =
            (random.Numbers(2, 4), random.Numbers(4, 2), random.Numbers(2, 4), random.Numbers(12, 2), random.Numbers(4));
        var merge = new TinyModel(Custom, ("mha.in_proj_weight", inWeight), ("mha.out_proj.weight", outWeight),
            ("mha.out_proj.bias", bias)).With(
            new JsonObject { ["r"] = 2, ["lora_bias"] = true, ["peft_version"] = version }.ToJsonString(),
            [.. TinyTensor.Lora("mha", inA, inB), ("mha.lora_B.bias", random.Numbers(12)),
                .. TinyTensor.Lora("mha.base_layer.out_proj", a, b), ("mha.base_layer.out_proj.lora_B.bias", loraBias)]);
        var merged = merge.Merge();
        Numbers.Near(Sum(outWeight, b, a, times * 0.5), merged["mha.out_proj.weight"]);
        Numbers.Near(Sum(inWeight, inB, inA, 0.5), merged["mha.in_proj_weight"]);
        Numbers.Near([.. bias.Values.Zip(loraBias.Values, (x, y) => x + (0.5 * y))], merged["mha.out_proj.bias"]);
        Assert.Equal(times - 1, merge.Planned!.Warnings.Length);
        Assert.Contains(merge.Planned.Targets,
            t => t.Outcome == AdapterOutcome.NotNeeded && t.Inputs.Single().EndsWith("mha.lora_B.bias", StringComparison.Ordinal));
    }

    [Fact]
    public void DoraCannotBeWeighted()
    {
        var random = new Random(2);
        var pair = TinyTensor.Lora("up", random.Numbers(2, 5), random.Numbers(4, 2));
        new TinyModel(Custom, ("up.weight", random.Numbers(4, 5)))
            .With("""{ "r": 2, "use_dora": true }""", 0.5, [.. pair, ("up.lora_magnitude_vector.default.weight", random.Numbers(4))])
            .Refused("so the adapter's weight must be 1");
    }

    [Fact]
    public void ADoraWithoutMagnitudesIsRefused()
    {
        var random = new Random(2);
        new TinyModel(Custom, ("up.weight", random.Numbers(4, 5)))
            .With("""{ "r": 2, "use_dora": true }""", TinyTensor.Lora("up", random.Numbers(2, 5), random.Numbers(4, 2)))
            .Refused("lora_magnitude_vector");
    }

    [Theory]
    [InlineData("pissa_niter_16", true)]
    [InlineData("olora", true)]
    [InlineData("corda", true)]
    [InlineData("lora_ga", true)]
    [InlineData("loftq", false)]
    [InlineData("orthogonal", false)]
    public void StartsThatChangedTheBaseNeedTheResidualBase(string start, bool residual)
    {
        var random = new Random(2);
        var merge = new TinyModel(Custom, ("up.weight", random.Numbers(4, 5))).With(
            $$"""{ "r": 2, "init_lora_weights": "{{start}}" }""", TinyTensor.Lora("up", random.Numbers(2, 5), random.Numbers(4, 2)));
        if (residual)
        {
            merge.Refused(start);
        }

        merge.Merge(new PlanOptions { BaseIsResidual = residual });
        Assert.Equal(start == "loftq" ? 1 : 0, merge.Planned!.Warnings.Length);
    }

    internal static double[] Sum(Numbers weight, Numbers b, Numbers a, double scaling)
    {
        var (inputs, rank) = ((int)weight.Shape[1], (int)a.Shape[0]);
        return [.. weight.Values.Select((w, i) => w + (scaling * Enumerable.Range(0, rank).Sum(k => b[i / inputs, k] * a[k, i % inputs])))];
    }
}
