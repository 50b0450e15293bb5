namespace UnslothMerge.Tests.Lora;

/// <summary>LoRA and its variants on every type of layer, compared with the formulas in double.</summary>
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

    private static readonly Gen<(int Seed, Layer Layer, int Out, int In, int Rank, bool Dora, bool RsLora)> Cases =
        Gen.Select(Gen.Int, Gen.Enum<Layer>(), Gen.Int[1, 70], Gen.Int[1, 70], Gen.Int[1, 9], Gen.Bool, Gen.Bool);

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
            var weight = Numbers.Random(random, 1, transposed ? [c.In, c.Out] : [c.Out, c.In, .. kernel]);
            var a = Numbers.Random(random, 1, [c.Rank, c.In, .. kernel]);
            var b = Numbers.Random(random, 1, [c.Out, c.Rank, .. kernel.Select(_ => 1L)]);
            var magnitude = Numbers.Random(random, 3, c.Layer == Layer.Convolution ? [1, c.Out, 1, 1] : [c.Out]);
            var config =
                $$"""{ "r": {{c.Rank}}, "lora_alpha": 2.5, "use_rslora": {{(c.RsLora ? "true" : "false")}}, "use_dora":""" +
                $$""" {{(c.Dora ? "true" : "false")}} }""";
            using var merge = new TinyMerge(Gpt2, (name + ".weight", weight));
            merge.With(config, 1,
                [(name + "." + partA, a), (name + "." + partB, b),
                    .. c.Dora ? [(name + ".lora_magnitude_vector", magnitude)] : Array.Empty<(string, Numbers)>()]);

            var scaling = 2.5 / (c.RsLora ? Math.Sqrt(c.Rank) : c.Rank);
            double Old(int o, int i) => transposed ? weight[i, o] : weight[o, i];
            var expected = new double[weight.Values.Length];
            for (var o = 0; o < c.Out; o++)
            {
                var row = Enumerable.Range(0, inner)
                    .Select(i => Old(o, i) + (scaling * Enumerable.Range(0, c.Rank).Sum(k => b[o, k] * a[k, i]))).ToArray();
                var factor = c.Dora ? magnitude.Values[o] / Math.Sqrt(row.Sum(v => v * v)) : 1;
                for (var i = 0; i < inner; i++)
                {
                    expected[transposed ? (i * c.Out) + o : (o * inner) + i] = factor * row[i];
                }
            }

            TinyMerge.Near(expected, merge.Merge()[name + ".weight"]);
        },
        iter: 60,
        threads: 1);

    [Theory]
    [InlineData(1, 3)]
    [InlineData(3, 1)]
    [InlineData(1, 1)]
    public void BlockDiagonalFactorsStandOnTheDiagonal(int blocksOfA, int blocksOfB)
    {
        const int Out = 12, In = 15, Rank = 6;
        var random = new Random(5);
        var weight = Numbers.Random(random, 1, Out, In);
        var a = Numbers.Random(random, 1, Rank, In / blocksOfA);
        var b = Numbers.Random(random, 1, Out, Rank / blocksOfB);
        using var merge = new TinyMerge(Custom, ("mlp.up.weight", weight));
        merge.With(
            $$"""{ "r": 6, "lora_alpha": 9, "use_bdlora": { "nblocks": 3, "match_strict": false, "target_modules_bd_a":""" +
            $$""" {{(blocksOfA > 1 ? "[\"up\"]" : "null")}}, "target_modules_bd_b": {{(blocksOfB > 1 ? "[\"up\"]" : "[]")}} } }""",
            -0.5,
            ("mlp.up.lora_A.weight", a),
            ("mlp.up.lora_B.weight", b));

        static double At(Numbers stored, int row, int column, int blocks)
        {
            var (height, width) = ((int)stored.Shape[0] / blocks, (int)stored.Shape[1]);
            return column / width == (blocks > 1 ? row / height : 0) ? stored[row, column % width] : 0;
        }

        var expected = Enumerable.Range(0, Out * In)
            .Select(i =>
                weight.Values[i] - (0.5 * 1.5 * Enumerable.Range(0, Rank)
                    .Sum(k => At(b, i / In, k, blocksOfB) * At(a, k, i % In, blocksOfA)))).ToArray();
        TinyMerge.Near(expected, merge.Merge()["mlp.up.weight"]);
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
        const int Rank = 3;
        var random = new Random(outputs);
        var weight = Numbers.Random(random, 1, outputs, inputs);
        var (a, b, d) = (Numbers.Random(random, 1, Rank, inputs), Numbers.Random(random, 1, outputs, Rank),
            Numbers.Random(random, 1, Rank));
        using var merge = new TinyMerge(Custom, ("up.weight", weight));
        merge.With("""{ "r": 3, "lora_alpha": 6, "kasa_config": { "beta": 0.1 } }""", 1, ("up.lora_A.weight", a), ("up.lora_B.weight", b),
            ("up.lora_diag", d));

        var svd = MathNet.Numerics.LinearAlgebra.Matrix<double>.Build.Dense(outputs, inputs, (i, j) => weight[i, j]).Svd();
        var kept = Math.Min(outputs, inputs) - Rank;
        var expected = new double[outputs * inputs];
        for (var i = 0; i < expected.Length; i++)
        {
            var (o, c) = (i / inputs, i % inputs);
            expected[i] = Enumerable.Range(0, kept).Sum(k => svd.U[o, k] * svd.S[k] * svd.VT[k, c]) +
                (2 * Enumerable.Range(0, Rank).Sum(k => b[o, k] * d.Values[k] * a[k, c]));
        }

        TinyMerge.Near(expected, merge.Merge()["up.weight"]);
    }

    [Fact]
    public void KasaNeedsALargerWeightAndItsDiagonal()
    {
        var random = new Random(1);
        (string, Numbers)[] pair = [("up.lora_A.weight", Numbers.Random(random, 1, 4, 9)),
            ("up.lora_B.weight", Numbers.Random(random, 1, 4, 4))];
        const string Config = """{ "r": 4, "kasa_config": { "beta": 0.1 } }""";
        using var small = new TinyMerge(Custom, ("up.weight", Numbers.Random(random, 1, 4, 9)));
        Assert.Contains("more than 4 inputs and outputs",
            small.With(Config, 1, [.. pair, ("up.lora_diag", Numbers.Random(random, 1, 4))]).Fail().Message, StringComparison.Ordinal);
        using var bare = new TinyMerge(Custom, ("up.weight", Numbers.Random(random, 1, 4, 9)));
        Assert.Contains("lora_diag", bare.With(Config, 1, pair).Fail().Message, StringComparison.Ordinal);
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
        var (inWeight, outWeight, bias) = (Numbers.Random(random, 1, 12, 4), Numbers.Random(random, 1, 4, 4), Numbers.Random(random, 1, 4));
        var (a, b, inA, inB, loraBias) =
            (Numbers.Random(random, 1, 2, 4), Numbers.Random(random, 1, 4, 2), Numbers.Random(random, 1, 2, 4),
                Numbers.Random(random, 1, 12, 2), Numbers.Random(random, 1, 4));
        using var merge = new TinyMerge(Custom, ("mha.in_proj_weight", inWeight), ("mha.out_proj.weight", outWeight),
            ("mha.out_proj.bias", bias));
        merge.With(
            version is null ? """{ "r": 2, "lora_bias": true }""" : $$"""{ "r": 2, "lora_bias": true, "peft_version": "{{version}}" }""",
            1,
            ("mha.lora_A.weight", inA),
            ("mha.lora_B.weight", inB),
            ("mha.lora_B.bias", Numbers.Random(random, 1, 12)),
            ("mha.base_layer.out_proj.lora_A.weight", a),
            ("mha.base_layer.out_proj.lora_B.weight", b),
            ("mha.base_layer.out_proj.lora_B.bias", loraBias));

        var merged = merge.Merge();
        TinyMerge.Near(Sum(outWeight, b, a, times * 0.5), merged["mha.out_proj.weight"]);
        TinyMerge.Near(Sum(inWeight, inB, inA, 0.5), merged["mha.in_proj_weight"]);
        TinyMerge.Near([.. bias.Values.Zip(loraBias.Values, (x, y) => x + (0.5 * y))], merged["mha.out_proj.bias"]);
        Assert.Equal(times - 1, merge.Plan!.Warnings.Length);
        Assert.Contains(merge.Plan.Targets,
            t => t.Outcome == AdapterOutcome.NotNeeded && t.Inputs.Single().EndsWith("mha.lora_B.bias", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(0.5, "so the adapter's weight must be 1")]
    [InlineData(1, "can be combined")]
    public void DoraIsNeitherWeightedNorCombined(double weight, string why)
    {
        var random = new Random(2);
        (string, Numbers)[] pair = [("up.lora_A.weight", Numbers.Random(random, 1, 2, 5)),
            ("up.lora_B.weight", Numbers.Random(random, 1, 4, 2))];
        using var merge = new TinyMerge(Custom, ("up.weight", Numbers.Random(random, 1, 4, 5)));
        merge.With("""{ "r": 2, "use_dora": true }""", weight,
            [.. pair, ("up.lora_magnitude_vector.default.weight", Numbers.Random(random, 1, 4))]).With("""{ "r": 2 }""", 1, pair);
        Assert.Contains(why, merge.Fail().Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ADoraWithoutMagnitudesIsRefused()
    {
        var random = new Random(2);
        using var merge = new TinyMerge(Custom, ("up.weight", Numbers.Random(random, 1, 4, 5)));
        merge.With("""{ "r": 2, "use_dora": true }""", 1, ("up.lora_A.weight", Numbers.Random(random, 1, 2, 5)),
            ("up.lora_B.weight", Numbers.Random(random, 1, 4, 2)));
        Assert.Contains("lora_magnitude_vector", merge.Fail().Message, StringComparison.Ordinal);
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
        using var merge = new TinyMerge(Custom, ("up.weight", Numbers.Random(random, 1, 4, 5)));
        merge.With($$"""{ "r": 2, "init_lora_weights": "{{start}}" }""", 1, ("up.lora_A.weight", Numbers.Random(random, 1, 2, 5)),
            ("up.lora_B.weight", Numbers.Random(random, 1, 4, 2)));
        if (residual)
        {
            Assert.Contains(start, merge.Fail().Message, StringComparison.Ordinal);
        }

        merge.Merge(new PlanOptions { BaseIsResidual = residual });
        Assert.Equal(start == "loftq" ? 1 : 0, merge.Plan!.Warnings.Length);
    }

    internal static double[] Sum(Numbers weight, Numbers b, Numbers a, double scaling)
    {
        var (inputs, rank) = ((int)weight.Shape[1], (int)a.Shape[0]);
        return [.. weight.Values.Select((w, i) => w + (scaling * Enumerable.Range(0, rank).Sum(k => b[i / inputs, k] * a[k, i % inputs])))];
    }
}
