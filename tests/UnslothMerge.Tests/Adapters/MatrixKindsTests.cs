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
        Expect("""{"peft_type": "MISS", "init_weights": true, "r": 4}""", Random(outputs, inputs), (o, c) => block[c % rank, o],
            [("miss_block", block)]);
    }

    [Fact]
    public void MissMini()
    {
        var block = Random(3, 2);
        Expect("""{"peft_type": "MISS", "init_weights": "mini", "r": 3, "mini_r": 2}""", Random(6, 7), (o, c) => block[c % 3, o % 2],
            [("miss_block", block)]);
    }

    [Theory]
    [InlineData(2, 3, 4, 5, 3)]
    [InlineData(3, 2, 5, 2, 1)]
    public void LoKrConv1dWithAWholeSecondFactor(int a, int b, int c, int d, int k)
    {
        // torch.kron pads w1 to [1, a, b]; the result [c, a·d, b·k] is read as [a·c, b·d, k].
        var (w1, w2) = (Random(a, b), Random(c, d, k));
        Expect("""{"peft_type": "LOKR", "alpha": 6, "r": 4}""", Random(a * c, b * d, k), (o, i) =>
        {
            var flat = (o * b * d * k) + i;
            var (x, y, z) = (flat / (a * d * b * k), flat / (b * k) % (a * d), flat % (b * k));
            return 6.0 / 4 * w1[y / d, z / k] * w2[x, y % d, z % k];
        }, [("lokr_w1", w1), ("lokr_w2", w2)]);
    }

    [Fact]
    public void LoKrConv2dInGroupsWithProducts()
    {
        // w2 = w2_a·w2_b is [c, d·k·k], and kron takes it as a matrix.
        var (a, b, c, d, k, r) = (2, 2, 3, 2, 4, 2);
        var (w1a, w1b, w2a, w2b) = (Random(a, r), Random(r, b), Random(c, r), Random(r, d * k));
        Expect("""{"peft_type": "LOKR", "alpha": 3, "r": 9, "rank_pattern": {"layer": 2}, "alpha_pattern": {"lay.r": 5}}""",
            Random(a * c, b * d, 2, 2),
            (o, i) => 5.0 / r * Sum(r, q => w1a[o / c, q] * w1b[q, i / (d * k)]) * Sum(r, q => w2a[o % c, q] * w2b[q, i % (d * k)]),
            [("lokr_w1_a", w1a), ("lokr_w1_b", w1b), ("lokr_w2_a", w2a), ("lokr_w2_b", w2b)]);
    }

    [Fact]
    public void LoHaConv1dWithCore()
    {
        var (outputs, inputs, k, r) = (5, 4, 3, 2);
        var (a1, b1, t1) = (Random(r, outputs), Random(r, inputs), Random(r, r, k, 1));
        var (a2, b2, t2) = (Random(r, outputs), Random(r, inputs), Random(r, r, k, 1));
        double Factor(Numbers a, Numbers b, Numbers t, int o, int i) =>
            Sum(r, p => Sum(r, q => t[p, q, i % k, 0] * b[q, i / k] * a[p, o]));
        Expect("""{"peft_type": "LOHA", "alpha": 3, "r": 2}""", Random(outputs, inputs, k),
            (o, i) => 1.5 * Factor(a1, b1, t1, o, i) * Factor(a2, b2, t2, o, i),
            [("hada_w1_a", a1), ("hada_w1_b", b1), ("hada_t1", t1), ("hada_w2_a", a2), ("hada_w2_b", b2), ("hada_t2", t2)]);
    }

    [Theory]
    [InlineData("relu", 7, 5, true)]
    [InlineData("relu", 7, 5, false)]
    [InlineData("qr", 4, 6, false)]
    [InlineData("qr", 6, 4, true)]
    public void Deft(string method, int outputs, int inputs, bool transposed)
    {
        var (p, r, weight) = (Random(outputs, 3), Random(3, inputs), Weight(outputs, inputs, transposed));
        var q = method == "relu" ? p.Values : Householder.Orthogonal(p.Values, outputs, 3);
        var t = method == "relu" ? [.. p.Values.Select(v => Math.Max(v, 0))] : q;
        double W(int o, int i) => transposed ? weight[i, o] : weight[o, i];
        double Projected(int k, int i) => Sum(outputs, o => t[(o * 3) + k] * W(o, i));
        var config = $$"""{"peft_type": "DEFT", "alpha": 6, "r": 3, "decomposition_method": "{{method}}", "para": """;
        Expect(config + "false}", weight, (o, i) => Sum(3, k => q[(o * 3) + k] * ((2 * r[k, i]) - Projected(k, i))),
            [("deft_P", p), ("deft_R", r)], transposed);
        Expect(config + "true}", weight, (o, i) => -Sum(3, k => q[(o * 3) + k] * Projected(k, i)), [("deft_P", p)], transposed);
    }

    [Fact]
    public void PeanutTwoDeep()
    {
        var (outputs, inputs, r) = (5, 4, 2);
        var (weight, a, b) = (Random(outputs, inputs), Random(r, outputs), Random(outputs, r));
        Numbers[] e = [Random(r, r), Random(r, r)], d = [Random(r, r), Random(r, r)];
        Expect("""{"peft_type": "PEANUT", "act_fn": "tanh", "depth": 2, "r": 2, "scaling": 0.5}""", weight, (o, i) =>
        {
            var x0 = Layer(Enumerable.Range(0, r).Select(k => Sum(outputs, m => a[k, m] * weight[m, i])));
            var x1 = Layer(Times(e[0], x0));
            var y = Layer(Times(d[0], Layer(Times(e[1], x1)))).Zip(x1, (u, v) => u + v).ToArray();
            y = [.. Layer(Times(d[1], y)).Zip(x0, (u, v) => u + v)];
            return 0.5 * Sum(r, k => b[o, k] * y[k]);
        },
        [
            ("peanut_A.weight", a), ("peanut_B.weight", b), ("peanut_encoders.0.weight", e[0]), ("peanut_encoders.1.weight", e[1]),
            ("peanut_decoders.0.weight", d[0]), ("peanut_decoders.1.weight", d[1]),
        ]);

        double[] Layer(IEnumerable<double> x) => [.. x.Select(Math.Tanh)];
        IEnumerable<double> Times(Numbers m, double[] x) => Enumerable.Range(0, r).Select(k => Sum(r, n => m[k, n] * x[n]));
    }

    [Theory]
    [InlineData(5, 8, false)]
    [InlineData(8, 5, false)]
    [InlineData(5, 8, true)]
    [InlineData(8, 5, true)]
    public void RandLora(int outputs, int inputs, bool transposed)
    {
        var (r, n, min) = (2, 3, Math.Min(outputs, inputs));
        var (a, b, lambda, gamma) = (Random(r, 1, 9), Random(10, 4, r), Random(r, n), Random(n, min));
        int Long(int o, int i) => outputs >= inputs ? o : i;
        int Short(int o, int i) => outputs >= inputs ? i : o;
        Expect("""{"peft_type": "RANDLORA", "randlora_alpha": 3, "r": 2}""", Weight(outputs, inputs, transposed),
            (o, i) => 1.5 * Sum(n * r,
                q => b[Long(o, i), q / r, q % r] * lambda[q / n, q % n] * gamma[q % n, Short(o, i)] * a[q / n, 0, Short(o, i)]),
            [("base_model.randlora_A", a), ("base_model.randlora_B", b), ("randlora_A", a), ("randlora_B", b), ("randlora_lambda", lambda),
                ("randlora_gamma", gamma)],
            transposed);
    }

    [Theory]
    [InlineData("db1", 6, 8, false)]
    [InlineData("db2", 7, 5, false)]
    [InlineData("sym4", 9, 12, true)]
    [InlineData("coif2", 40, 33, false)]
    public void WaveFt(string family, int outputs, int inputs, bool transposed)
    {
        var (spectrum, places) = (Random(9), Places(3, outputs * inputs, 9));
        var (low, high) = Wavelets.Find(family)!.Value;
        var (height, width) = (Even(outputs + low.Length - 2), Even(inputs + low.Length - 2));
        var s = new double[height, width];
        for (var n = 0; n < 9; n++)
        {
            s[(places[n] / inputs) + ((height - outputs) / 2), (places[n] % inputs) + ((width - inputs) / 2)] = spectrum[n];
        }

        // Up the columns first, then along the rows, as a transposed convolution with stride 2.
        var (h, w) = (height / 2, width / 2);
        Expect($$"""{"peft_type": "WAVEFT", "scaling": 2, "wavelet_family": "{{family}}", "use_idwt": true, "random_loc_seed": 3}""",
            Weight(outputs, inputs, transposed),
            (o, i) =>
            {
                double Up(int column, bool detail) =>
                    Sum(h, y => At(low, o, y) * s[detail ? y + h : y, column]) +
                    Sum(h, y => At(high, o, y) * s[detail ? y + h : y, column + w]);
                return 2 * (Sum(w, x => At(low, i, x) * Up(x, false)) + Sum(w, x => At(high, i, x) * Up(x, true)));
            },
            [("waveft_spectrum", spectrum)],
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
        var (spectrum, places) = (Random(5), Places(777, 12, 5));
        Expect("""{"peft_type": "WAVEFT", "scaling": 3, "wavelet_family": "db1", "use_idwt": false, "random_loc_seed": 777}""",
            Random(3, 4), (o, i) => Array.IndexOf(places, (o * 4) + i) is >= 0 and var n ? 3 * spectrum[n] : 0,
            [("waveft_spectrum", spectrum)]);
    }

    [Theory]
    [InlineData(6, 7, false)]
    [InlineData(8, 16, false)]
    [InlineData(11, 5, true)]
    public void FourierFt(int outputs, int inputs, bool transposed)
    {
        var (spectrum, places) = (Random(6), Places(41, outputs * inputs, 6));
        double Angle(int place, int o, int i) => ((double)(place / inputs) * o / outputs) + ((double)(place % inputs) * i / inputs);
        Expect("""{"peft_type": "FOURIERFT", "scaling": 150, "random_loc_seed": 41}""", Weight(outputs, inputs, transposed),
            (o, i) => 150.0 / (outputs * inputs) * Sum(6, n => spectrum[n] * Math.Cos(2 * Math.PI * Angle(places[n], o, i))),
            [("fourierft_spectrum", spectrum)], transposed);
    }

    [Fact]
    public void GraLoraHybridOnConv1D()
    {
        var (k, r, hybrid, outputs, inputs) = (2, 4, 3, 6, 8);
        var (a, b, ga, gb) = (Random(k, inputs / k, r), Random(k, r, outputs / k), Random(hybrid, inputs), Random(outputs, hybrid));
        Expect("""{"peft_type": "GRALORA", "alpha": 14, "r": 4, "gralora_k": 2, "hybrid_r": 3}""", Random(inputs, outputs),
            (o, i) =>
            {
                var (x, y) = (i / (inputs / k), o / (outputs / k));
                return 2 * (Sum(r / k, t => a[x, i % (inputs / k), (y * r / k) + t] * b[y, (x * r / k) + t, o % (outputs / k)]) +
                    Sum(hybrid, t => gb[o, t] * ga[t, i]));
            },
            [("gralora_A", a), ("gralora_B", b), ("gralora_A_general.weight", ga), ("gralora_B_general.weight", gb)],
            transposed: true);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void VbLora(bool onlyTheLargest)
    {
        var (r, v, n, outputs, inputs) = (2, 2, 5, 4, 6);
        var (bank, a, b) = (Random(n, v), Random(r, inputs / v, n), Random(outputs / v, r, n));
        Expect("""{"peft_type": "VBLORA", "r": 2, "topk": 2, "num_vectors": 5, "vector_length": 2}""", Random(outputs, inputs),
            (o, i) => Sum(r, k => Piece(b, (o / v * r) + k, o % v) * Piece(a, (k * inputs / v) + (i / v), i % v)),
            [("base_model.vblora_vector_bank", bank), .. Stored("A", a), .. Stored("B", b)]);

        TinyTensor[] Stored(string name, Numbers logits)
        {
            var pieces = Enumerable.Range(0, logits.Values.Length / n).Select(p => Mixture(logits, p)).ToArray();
            return !onlyTheLargest ? [($"vblora_logits_{name}", logits)] :
            [
                TinyTensor.Of($"vblora_logits_{name}_topk_indices", TensorType.U8, [.. logits.Shape[..2], 2],
                    [.. pieces.SelectMany(p => p.Select(m => (byte)m.Place))]),
                ($"vblora_logits_{name}_topk_weights", Numbers.Of([.. logits.Shape[..2], 1], p => pieces[p][0].Weight)),
            ];
        }

        double Piece(Numbers logits, int piece, int at) => Mixture(logits, piece).Sum(m => m.Weight * bank[m.Place, at]);
        (int Place, double Weight)[] Mixture(Numbers logits, int piece)
        {
            var largest = Enumerable.Range(0, n).Select(j => (Place: j, Score: logits.Values[(piece * n) + j]))
                .OrderByDescending(s => s.Score).Take(2).ToArray();
            var sum = largest.Sum(s => Math.Exp(s.Score));
            return [.. largest.Select(s => (s.Place, Math.Exp(s.Score) / sum))];
        }
    }

    [Fact]
    public void TinyLoraTellsItsVectorByTheSeedOfItsProjection()
    {
        // Two modules, two vectors: the projection of the second module, by the model's order, was drawn with the second seed.
        var (a, b, v0, v1) = (Random(2, 5), Random(4, 2), Random(4), Random(4));
        Numbers Projection(int seed) => new([4, 2, 2],
            [.. RandomNormals.First(seed, 16, inDouble: false).Select(x => (double)(float)(x / Math.Sqrt(2)))]);
        var p = Projection(43);
        Expect("""{"peft_type": "TINYLORA", "r": 2, "u": 4, "projection_seed": 42, "save_projection": true}""", Random(4, 5),
            (o, i) => Sum(2, x => Sum(2, y => b[o, x] * Sum(4, n => v1[n] * p[n, x, y]) * a[y, i])),
            [("base_model.tinylora_v.0", v0), ("base_model.tinylora_v.1", v1), ("base_model.model.a.tinylora_A", a),
                ("base_model.model.a.tinylora_B", b), ("base_model.model.a.tinylora_P", Projection(42)), ("tinylora_A", a),
                ("tinylora_B", b), ("tinylora_P", p)],
            others: ("a.weight", Random(4, 5)));
    }

    [Fact]
    public void SharedTensorsOfARawDumpAreFound()
    {
        var (a, b, outer, inner) = (Random(3, 9), Random(8, 3), Random(4), Random(3));
        Expect("""{"peft_type": "VERA", "r": 3, "save_projection": true}""", Random(4, 5),
            (o, i) => outer[o] * Sum(3, k => b[o, k] * inner[k] * a[k, i]),
            [("base_model.vera_A.default", a), ("base_model.vera_B.default", b), ("vera_lambda_b.default", outer),
                ("vera_lambda_d.default", inner)]);
    }

    [Fact]
    public void AdaLoraPrunedToNothingOnAnotherModuleIsNoError()
    {
        var (a, b, e) = (Random(2, 5), Random(4, 2), Random(2, 1));
        Expect(
            """
            {"peft_type": "ADALORA", "init_r": 12, "r": 8, "lora_alpha": 0, "rank_pattern": {"layer.lora_E": [true, false]}}
            """,
            Random(4, 5),
            (o, i) => 12 / (12 + 1e-5) * Sum(2, k => b[o, k] * e[k, 0] * a[k, i]),
            [("base_model.model.other.lora_A", Random(0, 3)), ("base_model.model.other.lora_B", Random(3, 0)),
                ("base_model.model.other.lora_E", Random(0, 1)), ("lora_A", a), ("lora_B", b), ("lora_E", e)],
            others: ("other.weight", Random(3, 3)));
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
        var json = JsonNode.Parse(config)!;
        json["peft_type"] = peftType;
        new TinyModel(("layer.weight", Random(4, 4))).With(json.ToJsonString(), ("layer.shira_weight", Random(3)),
            ("layer.deft_P", Random(4, 2)), ("layer.deft_R", Random(2, 4)), ("layer.waveft_spectrum", Random(3)),
            ("layer.peanut_A.weight", Random(2, 4)), ("layer.peanut_B.weight", Random(4, 2)), ("layer.miss_block", Random(2, 4)))
            .Refused(named);
    }

    [Fact]
    public void IndicesBeyondTheWeightAreRefused() => new TinyModel(("layer.weight", Random(4, 9))).With("""{"peft_type": "SHIRA"}""",
        TinyTensor.Of("layer.shira_indices", TensorType.I32, [2, 2], 0, 5, 1, 1), ("layer.shira_weight", Random(2))).Refused("the index 5");

    // Merges an adapter of the module 'layer' and compares with its weight plus a delta [out, in (times the kernel)]. The length of its
    // bias tells a weight that is stored as [in, out].
    private void Expect(string config, Numbers weight, Func<int, int, double> delta, TinyTensor[] adapter, bool transposed = false,
        params TinyTensor[] others)
    {
        var columns = weight.Values.Length / (int)weight.Shape[0];
        var merged = new TinyModel([("layer.weight", weight), ("layer.bias", Random(weight.Shape[transposed ? 1 : 0])), .. others])
            .With(config, [.. adapter.Select(t =>
                t.Name.StartsWith("base_model.", StringComparison.Ordinal) ? t : t with { Name = "layer." + t.Name })])
            .Merge()["layer.weight"];
        Numbers.Near([.. weight.Values.Select((w, i) =>
            w + (transposed ? delta(i % columns, i / columns) : delta(i / columns, i % columns)))], merged);
        Assert.NotEqual(weight.Values, merged);
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

    private Numbers Random(params long[] shape) => _random.Numbers(shape);

    private Numbers Weight(int outputs, int inputs, bool transposed) => transposed ? Random(inputs, outputs) : Random(outputs, inputs);
}
