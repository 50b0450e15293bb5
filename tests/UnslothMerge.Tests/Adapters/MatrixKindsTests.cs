namespace UnslothMerge.Tests.Adapters;

/// <summary>The kinds whose change is one matrix, against their formulas written out: forms and sizes that no golden has.</summary>
public sealed class MatrixKindsTests
{
    private readonly Random _random = new(7);

    [Theory]
    [InlineData(6, 10, 4)] // the rank does not divide the inputs
    [InlineData(300, 700, 3)] // several blocks and tiles
    public void Miss(int outputs, int inputs, int rank)
    {
        var block = Random(rank, outputs);
        using var merge = new TinyMerge("MISS", """{"init_weights": true, "r": 4}""", Random(outputs, inputs));
        merge.Part("miss_block", block).Expect((o, c) => block[c % rank, o]);
    }

    [Fact]
    public void MissMini()
    {
        var block = Random(3, 2);
        using var merge = new TinyMerge("MISS", """{"init_weights": "mini", "r": 3, "mini_r": 2}""", Random(6, 7));
        merge.Part("miss_block", block).Expect((o, c) => block[c % 3, o % 2]);
    }

    [Theory]
    [InlineData(2, 3, 4, 5, 3)]
    [InlineData(3, 2, 5, 2, 1)]
    public void LoKrConv1dWithAWholeSecondFactor(int a, int b, int c, int d, int k)
    {
        // torch.kron pads w1 to [1, a, b]; the result [c, a·d, b·k] is read as [a·c, b·d, k].
        var (w1, w2) = (Random(a, b), Random(c, d, k));
        using var merge = new TinyMerge("LOKR", """{"alpha": 6, "r": 4}""", Random(a * c, b * d, k));
        merge.Part("lokr_w1", w1).Part("lokr_w2", w2).Expect((o, i) =>
        {
            var flat = (o * b * d * k) + i;
            var (x, y, z) = (flat / (a * d * b * k), flat / (b * k) % (a * d), flat % (b * k));
            return 6.0 / 4 * w1[y / d, z / k] * w2[x, y % d, z % k];
        });
    }

    [Fact]
    public void LoKrConv2dInGroupsWithProducts()
    {
        // w2 = w2_a·w2_b is [c, d·k·k], and kron takes it as a matrix.
        var (a, b, c, d, k, r) = (2, 2, 3, 2, 4, 2);
        var (w1a, w1b, w2a, w2b) = (Random(a, r), Random(r, b), Random(c, r), Random(r, d * k));
        using var merge = new TinyMerge("LOKR", """{"alpha": 3, "r": 9, "rank_pattern": {"layer": 2}, "alpha_pattern": {"lay.r": 5}}""",
            Random(a * c, b * d, 2, 2));
        merge.Part("lokr_w1_a", w1a).Part("lokr_w1_b", w1b).Part("lokr_w2_a", w2a).Part("lokr_w2_b", w2b)
            .Expect((o, i) =>
                5.0 / r * Sum(r, q => w1a[o / c, q] * w1b[q, i / (d * k)]) * Sum(r, q => w2a[o % c, q] * w2b[q, i % (d * k)]));
    }

    [Fact]
    public void LoHaConv1dWithCore()
    {
        var (outputs, inputs, k, r) = (5, 4, 3, 2);
        var (a1, b1, t1) = (Random(r, outputs), Random(r, inputs), Random(r, r, k, 1));
        var (a2, b2, t2) = (Random(r, outputs), Random(r, inputs), Random(r, r, k, 1));
        using var merge = new TinyMerge("LOHA", """{"alpha": 3, "r": 2}""", Random(outputs, inputs, k));
        merge.Part("hada_w1_a", a1).Part("hada_w1_b", b1).Part("hada_t1", t1).Part("hada_w2_a", a2).Part("hada_w2_b", b2)
            .Part("hada_t2", t2)
            .Expect((o, i) => 1.5 * Factor(a1, b1, t1, o, i) * Factor(a2, b2, t2, o, i));

        double Factor(Values a, Values b, Values t, int o, int i) => Sum(r, p => Sum(r, q => t[p, q, i % k, 0] * b[q, i / k] * a[p, o]));
    }

    [Theory]
    [InlineData("relu", 7, 5, true)]
    [InlineData("relu", 7, 5, false)]
    [InlineData("qr", 4, 6, false)]
    [InlineData("qr", 6, 4, true)]
    public void Deft(string method, int outputs, int inputs, bool transposed)
    {
        var (p, r) = (Random(outputs, 3), Random(3, inputs));
        var weight = transposed ? Random(inputs, outputs) : Random(outputs, inputs);
        var q = method == "relu" ? p.Data : Householder.Orthogonal(p.Data, outputs, 3);
        var t = method == "relu" ? [.. p.Data.Select(v => Math.Max(v, 0))] : q;
        double W(int o, int i) => transposed ? weight[i, o] : weight[o, i];
        double Projected(int k, int i) => Sum(outputs, o => t[(o * 3) + k] * W(o, i));
        using (var merge = new TinyMerge("DEFT", $$"""{"alpha": 6, "r": 3, "decomposition_method": "{{method}}"}""", weight,
            Random(outputs)))
        {
            merge.Part("deft_P", p).Part("deft_R", r)
                .Expect((o, i) => Sum(3, k => q[(o * 3) + k] * ((2 * r[k, i]) - Projected(k, i))), transposed);
        }

        using (var merge = new TinyMerge("DEFT", $$"""{"alpha": 6, "r": 3, "para": true, "decomposition_method": "{{method}}"}""", weight,
            Random(outputs)))
        {
            merge.Part("deft_P", p).Expect((o, i) => -Sum(3, k => q[(o * 3) + k] * Projected(k, i)), transposed);
        }
    }

    [Fact]
    public void PeanutTwoDeep()
    {
        var (outputs, inputs, r) = (5, 4, 2);
        var weight = Random(outputs, inputs);
        var (a, b) = (Random(r, outputs), Random(outputs, r));
        Values[] e = [Random(r, r), Random(r, r)], d = [Random(r, r), Random(r, r)];
        using var merge = new TinyMerge("PEANUT", """{"act_fn": "tanh", "depth": 2, "r": 2, "scaling": 0.5}""", weight)
            .Part("peanut_A.weight", a).Part("peanut_B.weight", b);
        for (var n = 0; n < 2; n++)
        {
            merge.Part($"peanut_encoders.{n}.weight", e[n]).Part($"peanut_decoders.{n}.weight", d[n]);
        }

        merge.Expect((o, i) =>
        {
            var x0 = Layer(Enumerable.Range(0, r).Select(k => Sum(outputs, m => a[k, m] * weight[m, i])));
            var x1 = Layer(Times(e[0], x0));
            var y = Layer(Times(d[0], Layer(Times(e[1], x1)))).Zip(x1, (u, v) => u + v).ToArray();
            y = [.. Layer(Times(d[1], y)).Zip(x0, (u, v) => u + v)];
            return 0.5 * Sum(r, k => b[o, k] * y[k]);
        });

        double[] Layer(IEnumerable<double> x) => [.. x.Select(Math.Tanh)];
        IEnumerable<double> Times(Values m, double[] x) => Enumerable.Range(0, r).Select(k => Sum(r, n => m[k, n] * x[n]));
    }

    [Theory]
    [InlineData(5, 8, false)]
    [InlineData(8, 5, false)]
    [InlineData(5, 8, true)]
    [InlineData(8, 5, true)]
    public void RandLora(int outputs, int inputs, bool transposed)
    {
        var (r, n, min) = (2, 3, Math.Min(outputs, inputs));
        var (a, b) = (Random(r, 1, 9), Random(10, 4, r));
        var (lambda, gamma) = (Random(r, n), Random(n, min));
        using var merge = new TinyMerge("RANDLORA", """{"randlora_alpha": 3, "r": 2}""",
            transposed ? Random(inputs, outputs) : Random(outputs, inputs), Random(outputs));
        merge.With("randlora_A", a).With("randlora_B", b).Part("randlora_A", a).Part("randlora_B", b).Part("randlora_lambda", lambda)
            .Part("randlora_gamma", gamma)
            .Expect((o, i) =>
                1.5 * Sum(n * r,
                    q => b[Long(o, i), q / r, q % r] * lambda[q / n, q % n] * gamma[q % n, Short(o, i)] * a[q / n, 0, Short(o, i)]),
                    transposed);

        int Long(int o, int i) => outputs >= inputs ? o : i;
        int Short(int o, int i) => outputs >= inputs ? i : o;
    }

    [Theory]
    [InlineData("db1", 6, 8, false)]
    [InlineData("db2", 7, 5, false)]
    [InlineData("sym4", 9, 12, true)]
    [InlineData("coif2", 40, 33, false)]
    public void WaveFt(string family, int outputs, int inputs, bool transposed)
    {
        var spectrum = Random(9);
        var places = Places(3, outputs * inputs, 9);
        using var merge = new TinyMerge("WAVEFT",
            $$"""{"scaling": 2, "wavelet_family": "{{family}}", "use_idwt": true, "random_loc_seed": 3}""", transposed
            ? Random(inputs, outputs) : Random(outputs, inputs), Random(outputs));
        var (low, high) = Wavelets.Find(family)!.Value;
        var (height, width) = (Even(outputs + low.Length - 2), Even(inputs + low.Length - 2));
        var s = new double[height, width];
        for (var n = 0; n < 9; n++)
        {
            s[(places[n] / inputs) + ((height - outputs) / 2), (places[n] % inputs) + ((width - inputs) / 2)] = spectrum[n];
        }

        // Up the columns first, then along the rows, as a transposed convolution with stride 2.
        var (h, w) = (height / 2, width / 2);
        merge.Part("waveft_spectrum", spectrum).Expect(
            (o, i) =>
            {
                double Up(int column, bool detail) =>
                    Sum(h, y => At(low, o, y) * s[detail ? y + h : y, column]) +
                    Sum(h, y => At(high, o, y) * s[detail ? y + h : y, column + w]);
                return 2 * (Sum(w, x => At(low, i, x) * Up(x, false)) + Sum(w, x => At(high, i, x) * Up(x, true)));
            },
            transposed);

        static int Even(int n) => n + (n % 2);
        static double At(double[] filter, int to, int from)
        {
            var tap = to + (((2 * filter.Length) - 3) / 2) - (2 * from);
            return tap >= 0 && tap < filter.Length ? filter[tap] : 0;
        }
    }

    [Fact]
    public void WaveFtWithoutTransform()
    {
        var spectrum = Random(5);
        var places = Places(777, 12, 5);
        using var merge = new TinyMerge("WAVEFT", """{"scaling": 3, "wavelet_family": "db1", "use_idwt": false, "random_loc_seed": 777}""",
            Random(3, 4));
        merge.Part("waveft_spectrum", spectrum)
            .Expect((o, i) => Array.IndexOf(places, (o * 4) + i) is >= 0 and var n ? 3 * spectrum[n] : 0);
    }

    [Theory]
    [InlineData(6, 7, false)]
    [InlineData(8, 16, false)]
    [InlineData(11, 5, true)]
    public void FourierFt(int outputs, int inputs, bool transposed)
    {
        var spectrum = Random(6);
        var places = Places(41, outputs * inputs, 6);
        using var merge = new TinyMerge("FOURIERFT", """{"scaling": 150, "random_loc_seed": 41}""",
            transposed ? Random(inputs, outputs) : Random(outputs, inputs), Random(outputs));
        merge.Part("fourierft_spectrum", spectrum).Expect(
            (o, i) =>
                150.0 / (outputs * inputs) * Sum(6,
                    n =>
                    spectrum[n] * Math.Cos(2 * Math.PI
                        * (((double)(places[n] / inputs) * o / outputs) + ((double)(places[n] % inputs) * i / inputs)))),
            transposed);
    }

    [Fact]
    public void GraLoraHybridOnConv1D()
    {
        var (k, r, hybrid, outputs, inputs) = (2, 4, 3, 6, 8);
        var (a, b, ga, gb) = (Random(k, inputs / k, r), Random(k, r, outputs / k), Random(hybrid, inputs), Random(outputs, hybrid));
        using var merge = new TinyMerge("GRALORA", """{"alpha": 14, "r": 4, "gralora_k": 2, "hybrid_r": 3}""", Random(inputs, outputs),
            Random(outputs));
        merge.Part("gralora_A", a).Part("gralora_B", b).Part("gralora_A_general.weight", ga).Part("gralora_B_general.weight", gb).Expect(
            (o, i) =>
            {
                var (x, y) = (i / (inputs / k), o / (outputs / k));
                return 2 * (Sum(r / k, t => a[x, i % (inputs / k), (y * r / k) + t] * b[y, (x * r / k) + t, o % (outputs / k)]) +
                    Sum(hybrid, t => gb[o, t] * ga[t, i]));
            },
            transposed: true);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void VbLora(bool onlyTheLargest)
    {
        var (r, v, n, outputs, inputs) = (2, 2, 5, 4, 6);
        var (bank, a, b) = (Random(n, v), Random(r, inputs / v, n), Random(outputs / v, r, n));
        using var merge = new TinyMerge("VBLORA", """{"r": 2, "topk": 2, "num_vectors": 5, "vector_length": 2}""", Random(outputs, inputs))
            .With("vblora_vector_bank", bank);
        foreach (var (name, logits) in new[] { ("A", a), ("B", b) })
        {
            if (onlyTheLargest)
            {
                var pieces = Enumerable.Range(0, logits.Data.Length / n).Select(p => Mixture(logits, p)).ToArray();
                merge.Bytes($"vblora_logits_{name}_topk_indices", [.. pieces.SelectMany(p => p.Select(m => (byte)m.Place))],
                    logits.Shape[0], logits.Shape[1], 2);
                merge.Part($"vblora_logits_{name}_topk_weights",
                    new Values([.. pieces.Select(p => p[0].Weight)], logits.Shape[0], logits.Shape[1], 1));
            }
            else
            {
                merge.Part($"vblora_logits_{name}", logits);
            }
        }

        merge.Expect((o, i) => Sum(r, k => Piece(b, (o / v * r) + k, o % v) * Piece(a, (k * inputs / v) + (i / v), i % v)));

        double Piece(Values logits, int piece, int at) => Mixture(logits, piece).Sum(m => m.Weight * bank[m.Place, at]);
        (int Place, double Weight)[] Mixture(Values logits, int piece)
        {
            var largest = Enumerable.Range(0, n).Select(j => (Place: j, Score: logits.Data[(piece * n) + j]))
                .OrderByDescending(s => s.Score).Take(2).ToArray();
            var sum = largest.Sum(s => Math.Exp(s.Score));
            return [.. largest.Select(s => (s.Place, Math.Exp(s.Score) / sum))];
        }
    }

    [Fact]
    public void TinyLoraTellsItsVectorByTheSeedOfItsProjection()
    {
        // Two modules, two vectors: the projection of the second module, by the model's order, was drawn with the second seed.
        var (a, b) = (Random(2, 5), Random(4, 2));
        Values[] v = [Random(4), Random(4)];
        Values[] p = [.. new[] { 42,
            43 }.Select(s =>
            new Values([.. RandomNormals.First(s, 16, inDouble: false).Select(x => (double)(float)(x / Math.Sqrt(2)))], 4, 2, 2))];
        using var merge = new TinyMerge("TINYLORA", """{"r": 2, "u": 4, "projection_seed": 42, "save_projection": true}""", Random(4, 5))
            .Base("a.weight", Random(4, 5));
        merge.With("tinylora_v.0", v[0]).With("tinylora_v.1", v[1]).With("model.a.tinylora_A", a).With("model.a.tinylora_B", b)
            .With("model.a.tinylora_P", p[0])
            .Part("tinylora_A", a).Part("tinylora_B", b).Part("tinylora_P", p[1])
            .Expect((o, i) => Sum(2, x => Sum(2, y => b[o, x] * Sum(4, n => v[1][n] * p[1][n, x, y]) * a[y, i])));
    }

    [Fact]
    public void SharedTensorsOfARawDumpAreFound()
    {
        var (a, b, outer, inner) = (Random(3, 9), Random(8, 3), Random(4), Random(3));
        using var merge = new TinyMerge("VERA", """{"r": 3, "save_projection": true}""", Random(4, 5));
        merge.With("vera_A.default", a).With("vera_B.default", b).Part("vera_lambda_b.default", outer).Part("vera_lambda_d.default", inner)
            .Expect((o, i) => outer[o] * Sum(3, k => b[o, k] * inner[k] * a[k, i]));
    }

    [Fact]
    public void AdaLoraPrunedToNothingOnAnotherModuleIsNoError()
    {
        var (a, b, e) = (Random(2, 5), Random(4, 2), Random(2, 1));
        using var merge = new TinyMerge("ADALORA",
            """{"init_r": 12, "r": 8, "lora_alpha": 0, "rank_pattern": {"layer.lora_E": [true, false]}}""", Random(4, 5));
        merge.Base("other.weight", Random(3, 3)).With("model.other.lora_A", Random(0, 3)).With("model.other.lora_B", Random(3, 0))
            .With("model.other.lora_E", Random(0, 1))
            .Part("lora_A", a).Part("lora_B", b).Part("lora_E", e)
            .Expect((o, i) => 12 / (12 + 1e-5) * Sum(2, k => b[o, k] * e[k, 0] * a[k, i]));
    }

    [Theory]
    [InlineData("SHIRA", "{}", "shira_indices")]
    [InlineData("SUPERTUNING", """{"save_precomputed_indices": false}""", "save_precomputed_indices")]
    [InlineData("DEFT", """{"decomposition_method": "svd"}""", "svd")]
    [InlineData("PVERA", """{"sample_at_inference": true}""", "sample_at_inference")]
    [InlineData("WAVEFT", """{"wavelet_family": "coif5", "use_idwt": true, "random_loc_seed": 1, "scaling": 1}""", "coif5")]
    [InlineData("TINYLORA", """{"save_projection": false}""", "save_projection")]
    [InlineData("PEANUT", """{"act_fn": "xielu", "depth": 0, "scaling": 1}""", "xielu")]
    [InlineData("MISS", """{"init_weights": "other"}""", "other")]
    public void WhatCannotBeMergedIsRefusedByName(string peftType, string config, string named)
    {
        using var merge = new TinyMerge(peftType, config, Random(4, 4));
        merge.Part("shira_weight", Random(3)).Part("deft_P", Random(4, 2)).Part("deft_R", Random(2, 4)).Part("waveft_spectrum", Random(3))
            .Part("peanut_A.weight", Random(2, 4)).Part("peanut_B.weight", Random(4, 2)).Part("miss_block", Random(2, 4));
        Assert.Contains(named, Assert.Throws<MergeException>(() => merge.Merge()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void IndicesBeyondTheWeightAreRefused()
    {
        using var merge = new TinyMerge("SHIRA", "{}", Random(4, 9));
        merge.Indices("shira_indices", [0, 5, 1, 1], 2, 2).Part("shira_weight", Random(2));
        Assert.Contains("the index 5", Assert.Throws<MergeException>(() => merge.Merge()).Message, StringComparison.Ordinal);
    }

    // The whole shuffle, as torch does it.
    private static int[] Places(long seed, int length, int count)
    {
        var generator = new MersenneTwister(seed);
        var places = Enumerable.Range(0, length).ToArray();
        for (var i = 0; i < length - 1; i++)
        {
            var other = i + (int)(generator.Next32() % (uint)(length - i));
            (places[i], places[other]) = (places[other], places[i]);
        }

        return places[..count];
    }

    private static double Sum(int count, Func<int, double> term) => Enumerable.Range(0, count).Sum(term);

    private Values Random(params long[] shape) => Values.Random(_random, shape);
}
