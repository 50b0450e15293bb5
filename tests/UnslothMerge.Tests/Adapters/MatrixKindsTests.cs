namespace UnslothMerge.Tests.Adapters;

/// <summary>The kinds whose change is one matrix, against the reference formulas of Test-MergedModel: forms and sizes that no golden
/// has.</summary>
public sealed class MatrixKindsTests
{
    private readonly Random _random = new(7);

    [Theory]
    [InlineData(6, 10, 4)] // the rank does not divide the inputs
    [InlineData(300, 700, 3)] // several blocks and tiles
    public void Miss(int outputs, int inputs, int rank) => Verify(
        """{"peft_type": "MISS", "init_weights": true, "r": 4}""", Random(outputs, inputs), [("miss_block", Random(rank, outputs))]);

    [Fact]
    public void MissMini() => Verify(
        """{"peft_type": "MISS", "init_weights": "mini", "r": 3, "mini_r": 2}""", Random(6, 7), [("miss_block", Random(3, 2))]);

    // torch.kron pads w1 to [1, a, b]; the result [c, a·d, b·k] is read as [a·c, b·d, k].
    [Theory]
    [InlineData(2, 3, 4, 5, 3)]
    [InlineData(3, 2, 5, 2, 1)]
    public void LoKrConv1dWithAWholeSecondFactor(int a, int b, int c, int d, int k) => Verify(
        """{"peft_type": "LOKR", "alpha": 6, "r": 4}""", Random(a * c, b * d, k),
        [("lokr_w1", Random(a, b)), ("lokr_w2", Random(c, d, k))]);

    // w2 = w2_a·w2_b is [c, d·k·k], and kron takes it as a matrix.
    [Fact]
    public void LoKrConv2dInGroupsWithProducts() => Verify(
        """{"peft_type": "LOKR", "alpha": 3, "r": 9, "rank_pattern": {"layer": 2}, "alpha_pattern": {"lay.r": 5}}""", Random(6, 4, 2, 2),
        [("lokr_w1_a", Random(2, 2)), ("lokr_w1_b", Random(2, 2)), ("lokr_w2_a", Random(3, 2)), ("lokr_w2_b", Random(2, 8))]);

    [Fact]
    public void LoHaConv1dWithCore() => Verify(
        """{"peft_type": "LOHA", "alpha": 3, "r": 2}""", Random(5, 4, 3),
        [
            ("hada_w1_a", Random(2, 5)), ("hada_w1_b", Random(2, 4)), ("hada_t1", Random(2, 2, 3, 1)),
            ("hada_w2_a", Random(2, 5)), ("hada_w2_b", Random(2, 4)), ("hada_t2", Random(2, 2, 3, 1)),
        ]);

    [Theory]
    [InlineData("relu", 7, 5, true)]
    [InlineData("relu", 7, 5, false)]
    [InlineData("qr", 4, 6, false)]
    [InlineData("qr", 6, 4, true)]
    public void Deft(string method, int outputs, int inputs, bool transposed)
    {
        var (p, r, weight) = (Random(outputs, 3), Random(3, inputs), Weight(outputs, inputs, transposed));
        var config = $$"""{"peft_type": "DEFT", "alpha": 6, "r": 3, "decomposition_method": "{{method}}", "para": """;
        Verify(config + "false}", weight, [("deft_P", p), ("deft_R", r)], transposed);
        Verify(config + "true}", weight, [("deft_P", p)], transposed);
    }

    [Fact]
    public void PeanutTwoDeep() => Verify(
        """{"peft_type": "PEANUT", "act_fn": "tanh", "depth": 2, "r": 2, "scaling": 0.5}""", Random(5, 4),
        [
            ("peanut_A.weight", Random(2, 5)), ("peanut_B.weight", Random(5, 2)), ("peanut_encoders.0.weight", Random(2, 2)),
            ("peanut_encoders.1.weight", Random(2, 2)), ("peanut_decoders.0.weight", Random(2, 2)),
            ("peanut_decoders.1.weight", Random(2, 2)),
        ]);

    [Theory]
    [InlineData(5, 8, false)]
    [InlineData(8, 5, false)]
    [InlineData(5, 8, true)]
    [InlineData(8, 5, true)]
    public void RandLora(int outputs, int inputs, bool transposed)
    {
        var (a, b) = (Random(2, 1, 9), Random(10, 4, 2));
        Verify("""{"peft_type": "RANDLORA", "randlora_alpha": 3, "r": 2}""", Weight(outputs, inputs, transposed),
            [
                ("base_model.randlora_A", a), ("base_model.randlora_B", b), ("randlora_A", a), ("randlora_B", b),
                ("randlora_lambda", Random(2, 3)), ("randlora_gamma", Random(3, Math.Min(outputs, inputs))),
            ],
            transposed);
    }

    [Theory]
    [InlineData("db1", 6, 8, false)]
    [InlineData("db2", 7, 5, false)]
    [InlineData("sym4", 9, 12, true)]
    [InlineData("coif2", 40, 33, false)]
    public void WaveFt(string family, int outputs, int inputs, bool transposed) => Verify(
        $$"""{"peft_type": "WAVEFT", "scaling": 2, "wavelet_family": "{{family}}", "use_idwt": true, "random_loc_seed": 3}""",
        Weight(outputs, inputs, transposed), [("waveft_spectrum", Random(9))], transposed);

    [Fact]
    public void WaveFtWithoutTransform() => Verify(
        """{"peft_type": "WAVEFT", "scaling": 3, "wavelet_family": "db1", "use_idwt": false, "random_loc_seed": 777}""",
        Random(3, 4), [("waveft_spectrum", Random(5))]);

    [Theory]
    [InlineData(6, 7, false)]
    [InlineData(8, 16, false)]
    [InlineData(11, 5, true)]
    public void FourierFt(int outputs, int inputs, bool transposed) => Verify(
        """{"peft_type": "FOURIERFT", "scaling": 150, "random_loc_seed": 41}""", Weight(outputs, inputs, transposed),
        [("fourierft_spectrum", Random(6))], transposed);

    [Fact]
    public void GraLoraHybridOnConv1D() => Verify(
        """{"peft_type": "GRALORA", "alpha": 14, "r": 4, "gralora_k": 2, "hybrid_r": 3}""", Random(8, 6),
        [
            ("gralora_A", Random(2, 4, 4)), ("gralora_B", Random(2, 4, 3)), ("gralora_A_general.weight", Random(3, 8)),
            ("gralora_B_general.weight", Random(6, 3)),
        ],
        transposed: true);

    // Pieces of vectors are mixed by the two largest logits; a file may have nothing else of these.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void VbLora(bool onlyTheLargest)
    {
        Verify("""{"peft_type": "VBLORA", "r": 2, "topk": 2, "num_vectors": 5, "vector_length": 2}""", Random(4, 6),
            [("base_model.vblora_vector_bank", Random(5, 2)), .. Stored("A", Random(2, 3, 5)), .. Stored("B", Random(2, 2, 5))]);

        TinyTensor[] Stored(string name, Numbers logits)
        {
            var pieces = logits.Values.Chunk(5).Select(scores => scores.Index().OrderByDescending(s => s.Item).Take(2).ToArray()).ToArray();
            return !onlyTheLargest ? [($"vblora_logits_{name}", logits)] :
            [
                TinyTensor.Of($"vblora_logits_{name}_topk_indices", TensorType.U8, [.. logits.Shape[..2], 2],
                    [.. pieces.SelectMany(p => p.Select(m => (byte)m.Index))]),
                ($"vblora_logits_{name}_topk_weights",
                    Numbers.Of([.. logits.Shape[..2], 1], (int p) => 1 / (1 + Math.Exp(pieces[p][1].Item - pieces[p][0].Item)))),
            ];
        }
    }

    // Two modules, two vectors: the projection of the second module, by the model's order, was drawn with the second seed.
    [Fact]
    public void TinyLoraTellsItsVectorByTheSeedOfItsProjection()
    {
        var (a, b, v0, v1) = (Random(2, 5), Random(4, 2), Random(4), Random(4));
        Numbers Projection(int seed) => new([4, 2, 2],
            [.. RandomNormals.First(seed, 16, inDouble: false).Select(x => (double)(float)(x / Math.Sqrt(2)))]);
        var (p, weight) = (Projection(43), Random(4, 5));
        var merged = Merge("""{"peft_type": "TINYLORA", "r": 2, "u": 4, "projection_seed": 42, "save_projection": true}""", weight,
            [("base_model.tinylora_v.0", v0), ("base_model.tinylora_v.1", v1), ("base_model.model.a.tinylora_A", a),
                ("base_model.model.a.tinylora_B", b), ("base_model.model.a.tinylora_P", Projection(42)), ("tinylora_A", a),
                ("tinylora_B", b), ("tinylora_P", p)],
            others: ("a.weight", Random(4, 5))).Merge()["layer.weight"];
        double Sum(int count, Func<int, double> term) => Enumerable.Range(0, count).Sum(term);
        Numbers.Near([.. weight.Values.Select((w, at) => w
            + Sum(2, x => Sum(2, y => b[at / 5, x] * Sum(4, n => v1[n] * p[n, x, y]) * a[y, at % 5])))], merged);
    }

    [Fact]
    public void SharedTensorsOfARawDumpAreFound() => Verify(
        """{"peft_type": "VERA", "r": 3, "save_projection": true}""", Random(4, 5),
        [
            ("base_model.vera_A.default", Random(3, 9)), ("base_model.vera_B.default", Random(8, 3)),
            ("vera_lambda_b.default", Random(4)), ("vera_lambda_d.default", Random(3)),
        ]);

    [Fact]
    public void AdaLoraPrunedToNothingOnAnotherModuleIsNoError() => Merge(
        """{"peft_type": "ADALORA", "init_r": 12, "r": 8, "lora_alpha": 0, "rank_pattern": {"layer.lora_E": [true, false]}}""",
        Random(4, 5),
        [
            ("base_model.model.other.lora_A", Random(0, 3)), ("base_model.model.other.lora_B", Random(3, 0)),
            ("base_model.model.other.lora_E", Random(0, 1)), ("lora_A", Random(2, 5)), ("lora_B", Random(4, 2)), ("lora_E", Random(2, 1)),
        ],
        others: ("other.weight", Random(3, 3))).Verify(changes: false);

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

    private void Verify(string config, Numbers weight, TinyTensor[] adapter, bool transposed = false, params TinyTensor[] others) =>
        Merge(config, weight, adapter, transposed, others).Verify();

    // An adapter of the module 'layer'. The length of its bias tells a weight that is stored as [in, out].
    private TinyModel Merge(string config, Numbers weight, TinyTensor[] adapter, bool transposed = false, params TinyTensor[] others) =>
        new TinyModel([("layer.weight", weight), ("layer.bias", Random(weight.Shape[transposed ? 1 : 0])), .. others])
            .With(config, [.. adapter.Select(t =>
                t.Name.StartsWith("base_model.", StringComparison.Ordinal) ? t : t with { Name = "layer." + t.Name })]);

    private Numbers Random(params long[] shape) => _random.Numbers(shape);

    private Numbers Weight(int outputs, int inputs, bool transposed) => transposed ? Random(inputs, outputs) : Random(outputs, inputs);
}
