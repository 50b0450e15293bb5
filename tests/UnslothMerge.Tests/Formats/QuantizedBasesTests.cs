namespace UnslothMerge.Tests.Formats;

/// <summary>Bases in every quantized format, made of random codes, become plain models: each value as the format's definition gives it,
/// taken bit by bit, and nothing is left of the companions.</summary>
public sealed class QuantizedBasesTests : FileTests
{
    private static readonly TinyTensor[] Nothing = [];

    private readonly Random _random = new(7);

    public static IReadOnlyCollection<ITheoryDataRow> FourBits => new TheoryData<string, int, bool, TensorType, TensorType>(
    [
        .. new[] { 32, 64, 128, 256, 512, 1024, 2048, 4096 }.SelectMany(block => new[]
        {
            ("nf4", block, block % 3 == 0, TensorType.U8, TensorType.BF16),
            ("nf4", block, true, TensorType.BF16, TensorType.F16),
            ("fp4", block, true, TensorType.F32, TensorType.F32),
            ("fp4", block, false, TensorType.F16, TensorType.BF16),
        }),
    ]);

    public static TheoryData<int, string, bool> GptqLayouts =>
        [.. new[] { 2, 3, 4, 8 }.SelectMany(bits => new[] { (bits, "gptq", true), (bits, "gptq", false), (bits, "gptq_v2", true) })];

    public static TheoryData<int, bool, bool?> PackedIntegers =>
        [.. new[] { 2, 3, 4, 5, 8 }.SelectMany(bits => new (int, bool, bool?)[]
            { (bits, false, null), (bits, true, false), (bits, true, true) })];

    [Theory, MemberData(nameof(FourBits))]
    internal void Bitsandbytes_blocks_cross_rows_and_end_short(string type, int block, bool nested, TensorType storage, TensorType dtype)
    {
        // 301 · 67 is odd, and no multiple of any block.
        var (rows, columns) = (301, 67);
        var count = rows * columns;
        var packed = Bytes(((count + 1) / 2 + 3) & ~3);
        var blocks = (count + block - 1) / block;
        var codes = Bytes(blocks);
        float[] absMax = [.. Enumerable.Range(0, blocks).Select(_ => _random.NextSingle())];
        float[] map = FourBitCodes.Of(type).Values.ToArray();
        float[] nestedMap = [.. Enumerable.Range(0, 256).Select(i => (i - 127) / 128f)];
        float[] nestedAbsMax = [.. Enumerable.Range(0, (blocks + 255) / 256).Select(_ => _random.NextSingle())];
        const float Offset = 0.25f;
        var rest = nested ? $", \"nested_blocksize\": 256, \"nested_dtype\": \"float32\", \"nested_offset\": {Offset}" : "";
        var state =
            $$"""{"quant_type": "{{type}}", "blocksize": {{block}}, "dtype": "{{dtype.TorchName()}}", "shape": [{{rows}},""" +
            $$""" {{columns}}]{{rest}}}""";
        var values = Convert(
            new JsonObject { ["quant_method"] = "bitsandbytes", ["load_in_4bit"] = true },
            [rows, columns],
            [
                new("m.weight", storage, [packed.Length / (storage.Bits() / 8), 1], packed),
                nested ? new("m.weight.absmax", TensorType.U8, [blocks], codes) : TinyTensor.F32("m.weight.absmax", [blocks], absMax),
                TinyTensor.F32("m.weight.quant_map", [16], map),
                new($"m.weight.quant_state.bitsandbytes__{type}", TensorType.U8, [state.Length], Encoding.UTF8.GetBytes(state)),
                .. nested ? [TinyTensor.F32("m.weight.nested_absmax", [nestedAbsMax.Length], nestedAbsMax),
                    TinyTensor.F32("m.weight.nested_quant_map", [256], nestedMap)] : Nothing,
            ]);
        for (var i = 0; i < count; i++)
        {
            var b = i / block;
            var scale = nested ? (float)((float)((double)nestedMap[codes[b]] * nestedAbsMax[b / 256]) + (double)Offset) : absMax[b];
            var value = (float)((double)map[i % 2 == 0 ? packed[i / 2] >> 4 : packed[i / 2] & 15] * scale);
            var rounded = dtype switch { TensorType.BF16 => Bf16(value), TensorType.F16 => (float)(Half)value, _ => value };
            Assert.True(rounded == values[i], $"element {i}: {values[i]} instead of {rounded}");
        }
    }

    [Theory, MemberData(nameof(GptqLayouts))]
    public void Gptq_of_any_width_version_and_order(int bits, string version, bool actOrder)
    {
        // More outputs than a panel has, and not a whole number of panels.
        var (inputs, outputs, groupSize) = (96, 288, 32);
        var groups = inputs / groupSize;
        var qweight = Bytes(inputs * bits / 32 * outputs * 4);
        var qzeros = Bytes(groups * outputs * bits / 8);
        Half[] scales = [.. Enumerable.Range(0, groups * outputs).Select(_ => (Half)(_random.NextSingle() - 0.5f))];
        int[] order = [.. Enumerable.Range(0, inputs).Select(i => i / groupSize)];
        if (actOrder)
        {
            _random.Shuffle(order);
        }

        var values = Convert(
            new JsonObject { ["quant_method"] = "gptq", ["bits"] = bits, ["group_size"] = groupSize, ["desc_act"] = actOrder,
                ["checkpoint_format"] = version },
            [outputs, inputs],
            [
                new("m.qweight", TensorType.I32, [inputs * bits / 32, outputs], qweight),
                new("m.qzeros", TensorType.I32, [groups, outputs * bits / 32], qzeros),
                TinyTensor.Of("m.scales", TensorType.F16, [groups, outputs], scales),
                .. actOrder ? [TinyTensor.Of("m.g_idx", TensorType.I32, [inputs], order)] : Nothing,
            ]);
        Check(values, outputs, inputs, (o, i) =>
        {
            var code = Bits(bits, b => Bit(qweight, ((((i * bits) + b) / 32 * outputs) + o) * 32L + (((i * bits) + b) % 32)));
            var zero = Bits(bits, b => Bit(qzeros, (order[i] * outputs * (long)bits) + (o * bits) + b));
            zero = version == "gptq" ? (zero + 1) & ((1 << bits) - 1) : zero;
            return (float)((double)(float)scales[(order[i] * outputs) + o] * (code - zero));
        });
    }

    [Fact]
    public void Awq_interleaves_eight_outputs()
    {
        var (inputs, outputs, groupSize) = (48, 520, 16);
        var qweight = Bytes(inputs * outputs / 2);
        var qzeros = Bytes(inputs / groupSize * outputs / 2);
        Half[] scales = [.. Enumerable.Range(0, inputs / groupSize * outputs).Select(_ => (Half)_random.NextSingle())];
        var values = Convert(
            new JsonObject { ["quant_method"] = "awq", ["bits"] = 4, ["group_size"] = groupSize, ["version"] = "gemm" },
            [outputs, inputs],
            [
                new("m.qweight", TensorType.I32, [inputs, outputs / 8], qweight),
                new("m.qzeros", TensorType.I32, [inputs / groupSize, outputs / 8], qzeros),
                TinyTensor.Of("m.scales", TensorType.F16, [inputs / groupSize, outputs], scales),
            ]);
        int[] columnOfNibble = [0, 2, 4, 6, 1, 3, 5, 7];
        Check(values, outputs, inputs, (o, i) =>
        {
            var (g, nibble) = (i / groupSize, Array.IndexOf(columnOfNibble, o % 8));
            int Of(byte[] words, int row) =>
                (int)(BinaryPrimitives.ReadUInt32LittleEndian(words.AsSpan(((row * outputs / 8) + (o / 8)) * 4)) >> (4 * nibble)) & 15;
            return (float)((double)(float)scales[(g * outputs) + o] * (Of(qweight, i) - Of(qzeros, g)));
        });
    }

    [Theory, MemberData(nameof(PackedIntegers))]
    public void Packed_integers_may_be_asymmetric_and_reordered(int bits, bool asymmetric, bool? reordered)
    {
        var (rows, columns, group) = (21, 96, 32);
        var words = ((columns * bits) + 31) / 32;
        var packed = Bytes(rows * words * 4);
        var groups = columns / group;
        float[] scales = [.. Enumerable.Range(0, rows * groups).Select(_ => _random.NextSingle() - 0.5f)];
        var zeroWords = ((rows * bits) + 31) / 32;
        var zeros = Bytes(zeroWords * groups * 4);
        int[] order = [.. Enumerable.Range(0, columns).Select(i => i / group)];
        if (reordered == true)
        {
            _random.Shuffle(order);
        }

        var values = Convert(
            new JsonObject { ["quant_method"] = "compressed-tensors", ["format"] = "pack-quantized",
                ["config_groups"] = new JsonObject { ["group_0"] =
                    new JsonObject { ["weights"] = new JsonObject { ["num_bits"] = bits, ["group_size"] = group } } } },
            [rows, columns],
            [
                new("m.weight_packed", TensorType.I32, [rows, words], packed),
                TinyTensor.Of<long>("m.weight_shape", TensorType.I64, [2], rows, columns),
                TinyTensor.F32("m.weight_scale", [rows, groups], scales),
                .. asymmetric ? [new("m.weight_zero_point", TensorType.I32, [zeroWords, groups], zeros)] : Nothing,
                .. reordered is { } r
                    ? [TinyTensor.Of("m.weight_g_idx", TensorType.I32, [columns], r ? order : [.. order.Select(_ => -1)])] : Nothing,
            ]);
        Check(values, rows, columns, (o, i) =>
        {
            var half = 1 << (bits - 1);
            var code = Bits(bits, b => Bit(packed, (o * words * 32L) + (i * bits) + b)) - half;
            var zero = asymmetric
                ? Bits(bits, b => Bit(zeros, (((((o * bits) + b) / 32 * groups) + order[i]) * 32L) + (((o * bits) + b) % 32))) - half : 0;
            return (float)((double)scales[(o * groups) + order[i]] * (code - zero));
        });
    }

    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(5)]
    [InlineData(6)]
    [InlineData(8)]
    public void Mlx_integers_have_a_scale_and_a_bias(int bits)
    {
        var (rows, columns, group) = (7, 96, 32);
        var (words, groups) = (columns * bits / 32, columns / group);
        var packed = Bytes(rows * words * 4);
        float[] scales = [.. Enumerable.Range(0, rows * groups).Select(_ => Bf16(_random.NextSingle() - 0.5f))];
        float[] biases = [.. scales.Select(_ => Bf16(_random.NextSingle() - 0.5f))];
        var values = Convert(
            new JsonObject { ["bits"] = 4, ["group_size"] = 64, ["m"] = new JsonObject { ["bits"] = bits, ["group_size"] = group } },
            [rows, columns],
            [
                new("m.weight", TensorType.U32, [rows, words], packed), TinyTensor.F32("m.scales", [rows, groups], scales),
                TinyTensor.F32("m.biases", [rows, groups], biases),
            ]);
        Check(values, rows, columns, (o, i) =>
            (scales[(o * groups) + (i / group)] * Bits(bits, b => Bit(packed, (o * words * 32L) + (i * bits) + b)))
                + biases[(o * groups) + (i / group)]);
    }

    /// <summary>nvfp4's scales are E4M3 in U8; mxfp4's are exponents.</summary>
    [Theory]
    [InlineData("nvfp4", 16)]
    [InlineData("mxfp4", 32)]
    public void Mlx_floats_are_scaled_by_what_their_mode_says(string mode, int group)
    {
        var (rows, columns) = (5, 64);
        var packed = Bytes(rows * columns / 2);
        var scales = Bytes(rows * columns / group, least: 0x30, beyond: 0x50);
        TinyTensor[] tensors =
            [new("m.weight", TensorType.U32, [rows, columns / 8], packed), new("m.scales", TensorType.U8, [rows, columns / group], scales)];
        var quantization = new JsonObject { ["bits"] = 4, ["group_size"] = group, ["mode"] = mode };
        var values = Convert((JsonObject)quantization.DeepClone(), [rows, columns], tensors);
        Check(values, rows, columns, (o, i) =>
        {
            var scale = scales[((o * columns) + i) / group];
            var factor = mode == "mxfp4" ? Math.ScaleB(1, scale - 127) : Math.ScaleB(1 + ((scale & 7) / 8.0), (scale >> 3) - 7);
            return (float)(E2M1(packed[((o * columns) + i) / 2] >> (i % 2 * 4)) * factor);
        });

        TinyModel.Requantize(TinyModel.Plan(Temp["base"]), Temp["back"], new BaseFormatRequest(), computed: true);
        Assert.Equal(TinyModel.Stored(Temp["base"]).Keys, TinyModel.Stored(Temp["back"]).Keys);
        Assert.Equal(TinyModel.Values(Temp["base"])["m.weight"], TinyModel.Values(Temp["back"])["m.weight"]);
    }

    /// <summary>ModelOpt's W4A8_AWQ has a second scale for the activations only; its columns are divided by
    /// <c>pre_quant_scale</c>.</summary>
    [Fact]
    public void ModelOpt_packs_two_rows_into_one()
    {
        var (rows, columns, group) = (6, 64, 32);
        var packed = Bytes(rows / 2 * columns);
        float[] scales = [.. Enumerable.Range(0, rows * columns / group).Select(_ => _random.NextSingle())];
        float[] factors = [.. Enumerable.Range(0, columns).Select(_ => Bf16(0.5f + _random.NextSingle()))];
        var values = Convert(
            new JsonObject { ["quant_method"] = "modelopt", ["quant_algo"] = "W4A8_AWQ" },
            [rows, columns],
            [
                new("m.weight", TensorType.U8, [rows / 2, columns], packed),
                TinyTensor.F32("m.weight_scale", [rows, columns / group], scales), TinyTensor.F32("m.weight_scale_2", [], 3),
                TinyTensor.F32("m.input_scale", [], 2), TinyTensor.F32("m.pre_quant_scale", [columns], factors),
            ]);
        Check(values, rows, columns, (o, i) =>
        {
            var code = (packed[(o / 2 * columns) + i] >> (o % 2 * 4)) & 15;
            return scales[((o * columns) + i) / group] * (code < 8 ? code : code - 16) * factors[i];
        });
    }

    [Fact]
    public void Mxfp4_pack_has_powers_of_two_for_scales()
    {
        var (rows, columns) = (5, 96);
        var (packed, scales) = (Bytes(rows * columns / 2), Bytes(rows * columns / 32, least: 100, beyond: 150));
        var values = Convert(
            new JsonObject { ["quant_method"] = "compressed-tensors", ["format"] = "mxfp4-pack-quantized" },
            [rows, columns],
            [new("m.weight_packed", TensorType.U8, [rows, columns / 2], packed),
                new("m.weight_scale", TensorType.U8, [rows, columns / 32], scales)]);
        Check(values, rows, columns,
            (o, i) => (float)Math.ScaleB(E2M1(packed[((o * columns) + i) / 2] >> (i % 2 * 4)), scales[((o * columns) + i) / 32] - 127));
    }

    [Fact]
    public void Mxfp4_experts_are_stored_the_other_way_round()
    {
        var (experts, outputs, groups) = (3, 37, 2);
        var (blocks, scales) = (Bytes(experts * outputs * groups * 16), Bytes(experts * outputs * groups, least: 100, beyond: 150));
        var values = Convert(
            new JsonObject { ["quant_method"] = "mxfp4" },
            [experts, groups * 32, outputs],
            [new("m.weight_blocks", TensorType.U8, [experts, outputs, groups, 16], blocks),
                new("m.weight_scales", TensorType.U8, [experts, outputs, groups], scales)]);
        Check(values, experts * groups * 32, outputs, (row, o) =>
        {
            var (expert, input) = (row / (groups * 32), row % (groups * 32));
            var block = (((expert * outputs) + o) * groups) + (input / 32);
            return (float)Math.ScaleB(E2M1(blocks[(block * 16) + (input % 32 / 2)] >> (input % 2 * 4)), scales[block] - 127);
        });
    }

    [Fact]
    public void Fp8_scales_may_lie_in_another_shard_and_what_serves_activations_goes()
    {
        var (rows, columns) = (200, 140);
        var codes = Bytes(rows * columns, least: 0, beyond: 0x7F);
        float[] scales = [1, 0.5f, 3, 0.25f];
        var one = TinyTensor.F32("x", [1], 1f);
        var values = Convert(
            new JsonObject { ["quant_method"] = "fp8", ["weight_block_size"] = new JsonArray(128, 128) },
            [rows, columns],
            [
                new("self_attn.k_proj.weight", TensorType.F8_E4M3, [rows, columns], codes),
                one with { Name = "self_attn.k_proj.input_scale" },
                one with { Name = "self_attn.k_scale" },
                one with { Name = "self_attn.k_proj.k_scale" },
            ],
            [TinyTensor.F32("self_attn.k_proj.weight_scale_inv", [2, 2], scales)]);
        Check(values, rows, columns, (o, i) =>
        {
            var code = codes[(o * columns) + i];
            var value = code < 8 ? code * Math.ScaleB(1, -9) : Math.ScaleB(8 + (code & 7), (code >> 3) - 10);
            return (float)(value * scales[(o / 128 * 2) + (i / 128)]);
        });
    }

    [Theory]
    [InlineData(TensorType.F16)]
    [InlineData(TensorType.BF16)]
    internal void What_is_decoded_is_rounded_once_into_any_dtype_and_as_many_shards(TensorType type)
    {
        var (rows, columns) = (64, 48);
        var codes = Bytes(rows * columns);
        float[] maxima = [.. Enumerable.Range(0, rows).Select(_ => _random.NextSingle())];
        var @base = Base(
            new JsonObject { ["quant_method"] = "bitsandbytes", ["load_in_8bit"] = true },
            [
                new("m.weight", TensorType.I8, [rows, columns], codes), TinyTensor.F32("m.SCB", [rows], maxima),
                new("m.weight_format", TensorType.U8, [], [0]),
                TinyTensor.Random("n.weight", [rows, columns], 3),
            ]);
        var saved = TinyModel.Save(TinyModel.WritePlan(TinyModel.Plan(@base), type, shard: 7000), Temp["out"]);
        Assert.Equal(2, saved.Count);
        using var files = new InputFiles();
        var stored = files.ReadAll<ushort>(Checkpoint.Open(Temp["out"]).Find("m.weight")!);
        Check([.. stored.Select(b =>
            type == TensorType.F16 ? (float)BitConverter.UInt16BitsToHalf(b) : BitConverter.UInt32BitsToSingle((uint)b << 16))], rows,
            columns, (o, i) =>
        {
            var value = (sbyte)codes[(o * columns) + i] * (float)((double)maxima[o] * (1f / 127));
            return type == TensorType.F16 ? (float)(Half)value : Bf16(value);
        });
    }

    /// <summary>What is lacking from a quantized weight: it would be decoded to other values, or be missing in the saved model.</summary>
    public static TheoryData<string, string, string> Incomplete => new()
    {
        { "q-nvfp4", "weight_global_scale", "weight_global_scale' is missing" },
        { "ba-mo-nvfp4", "weight_scale_2", "weight_scale_2' is missing" },
        { "q-nvfp4", "weight_packed", "' is there, but not the codes" },
        { "q-int4-asym", "weight_zero_point", "weight_zero_point' is missing" },
        { "q-gptq", "qweight", "' is there, but not the codes" },
        { "q-gptq", "scales", ".scales' is missing" },
        { "q-awq", "qweight", "' is there, but not the codes" },
        { "q-mxfp4-gptoss", "_blocks", "' is there, but not the codes" },
        { "q-int8", "SCB", ".SCB' is missing" },
        { "q-nf4-storage", "quant_state.bitsandbytes__nf4", "' is there, but not the codes" },
        { "ba-mlx-4bit", "biases", ".biases' is missing" },
    };

    [Theory, MemberData(nameof(Incomplete))]
    public void A_weight_without_what_it_needs_is_refused(string name, string lacking, string said)
    {
        using var files = new InputFiles();
        var model = ModelDirectory.Open(Fixtures.Base(name));
        var tensors = model.Checkpoint.Tensors.Select(t => new TinyTensor(t.Name, t.Type, [.. t.Shape], files.ReadAll(t))).ToList();
        tensors.Remove(tensors.First(t => t.Name.EndsWith(lacking, StringComparison.Ordinal)));
        TinyModel.Base(Temp["base"], File.ReadAllText(Path.Combine(Fixtures.Base(name), "config.json")), [.. tensors]);
        Errors.Expect(MergeError.InvalidModel, () => TinyModel.Plan(Temp["base"]), said);
    }

    [Fact]
    public void Codes_in_the_dtype_of_weights_are_not_copied_as_weights()
    {
        var @base = Base(
            new JsonObject
            {
                ["quant_method"] = "bitsandbytes", ["load_in_4bit"] = true, ["bnb_4bit_quant_storage"] = "bfloat16",
            },
            [TinyTensor.Of("m.weight", TensorType.BF16, [64, 1], new ushort[64])]);
        Errors.Expect(MergeError.UnsupportedFormat, () => TinyModel.Plan(@base), "'m.weight' (BF16 [64, 1])");
    }

    [Theory]
    [InlineData(0, 1, 1L << 40)]
    [InlineData(1, 0, 1L << 40)]
    public void A_tensor_that_no_buffer_holds_is_named(long first, long second, long third) => new TinyModel(
        new TinyTensor("m.weight", TensorType.BF16, [first, second, third], [])).Refused($"is [{first}, {second}, {third}]: rows of more");

    [Fact]
    public void Inputs_in_the_order_of_activations_need_their_index()
    {
        var @base = Base(
            new JsonObject { ["quant_method"] = "gptq", ["bits"] = 4, ["group_size"] = 32, ["desc_act"] = true },
            [
                new("m.qweight", TensorType.I32, [8, 64], Bytes(8 * 64 * 4)), new("m.qzeros", TensorType.I32, [2, 8], Bytes(64)),
                new("m.scales", TensorType.F16, [2, 64], Bytes(256)),
            ]);
        Errors.Expect(MergeError.InvalidModel, () => TinyModel.Plan(@base), "'m.g_idx' is missing");
    }

    [Theory]
    [InlineData("""{"quant_method": "gptq", "bits": "4", "group_size": 32}""", "bits: \"4\"")]
    [InlineData("""{"quant_method": "gptq", "bits": 4, "group_size": [32]}""", "group_size: [32]")]
    [InlineData("""{"quant_method": "gptq", "bits": 4.5, "group_size": 32}""", "bits: 4.5")]
    public void An_option_of_an_odd_kind_is_named(string quantization, string said)
    {
        var @base = TinyModel.Base(Temp["base"], $$"""{"model_type": "tiny", "quantization_config": {{quantization}}}""",
            new("m.qweight", TensorType.I32, [8, 64], Bytes(8 * 64 * 4)), new("m.qzeros", TensorType.I32, [2, 8], Bytes(64)),
            new("m.scales", TensorType.F16, [2, 64], Bytes(256)));
        Errors.Expect(MergeError.InvalidModel, () => TinyModel.Plan(@base), said);
    }

    [Theory]
    [InlineData("m.g_idx")]
    [InlineData("m.qzeros")]
    [InlineData("m.scales")]
    public void Parts_that_do_not_fit_together_are_named(string damaged)
    {
        TinyTensor[] parts =
        [
            new("m.qweight", TensorType.I32, [8, 64], Bytes(8 * 64 * 4)), new("m.qzeros", TensorType.I32, [2, 8], Bytes(64)),
            new("m.scales", TensorType.F16, [2, 64], Bytes(256)), TinyTensor.Of("m.g_idx", TensorType.I32, [64], new int[64]),
        ];
        parts = [.. parts.Select(p => p.Name != damaged ? p : p.Name switch
        {
            "m.g_idx" => TinyTensor.Of(p.Name, p.Type, p.Shape, Enumerable.Repeat(2, 64).ToArray()),
            "m.qzeros" => p with { Shape = [2, 4], Bytes = p.Bytes[..32] },
            _ => p with { Shape = [1, 64], Bytes = p.Bytes[..128] },
        })];
        var @base = Base(new JsonObject { ["quant_method"] = "gptq", ["bits"] = 4, ["group_size"] = 32 }, parts);
        Errors.Expect(() => TinyModel.Save(TinyModel.WritePlan(TinyModel.Plan(@base)), Temp["out"]), "'m.");
        Assert.False(Directory.Exists(Temp["out"]));
    }

    [Theory]
    [InlineData(1, 8)]
    [InlineData(2, 4)]
    public void Gptq_without_an_index_has_as_many_groups_as_its_inputs_need(int groups, int zeroWords)
    {
        var @base = Base(
            new JsonObject { ["quant_method"] = "gptq", ["bits"] = 4, ["group_size"] = 32 },
            [
                new("m.qweight", TensorType.I32, [8, 64], Bytes(8 * 64 * 4)),
                new("m.qzeros", TensorType.I32, [groups, zeroWords], Bytes(groups * zeroWords * 4)),
                new("m.scales", TensorType.F16, [groups, 64], Bytes(groups * 64 * 2)),
            ]);
        Errors.Expect(() => TinyModel.Plan(@base), "do not belong together in groups of 32");
    }

    // Saves as F32 and gives the values of the one weight; of other tensors there are none left.
    private float[] Convert(JsonObject quantization, long[] shape, TinyTensor[] tensors, TinyTensor[]? secondShard = null)
    {
        Base(quantization, tensors);
        if (secondShard is not null)
        {
            File.Move(Temp["base/model.safetensors"], Temp["base/model-00001-of-00002.safetensors"]);
            TinyModel.WriteFile(Temp["base/model-00002-of-00002.safetensors"], secondShard);
            var map = tensors.Select(t => KeyValuePair.Create(t.Name, "model-00001-of-00002.safetensors"))
                .Concat(secondShard.Select(t => KeyValuePair.Create(t.Name, "model-00002-of-00002.safetensors")));
            File.WriteAllText(Temp["base/model.safetensors.index.json"], ShardIndex.Text(map, 1, 1));
        }

        TinyModel.Save(TinyModel.WritePlan(TinyModel.Plan(Temp["base"]), TensorType.F32), Temp["out"]);
        Assert.DoesNotContain("quantization_config", File.ReadAllText(Temp["out/config.json"]), StringComparison.Ordinal);
        var weight = Assert.Single(Checkpoint.Open(Temp["out"]).Tensors);
        Assert.EndsWith(".weight", weight.Name, StringComparison.Ordinal);
        Assert.Equal(TensorType.F32, weight.Type);
        Assert.Equal(shape, weight.Shape);
        using var files = new InputFiles();
        return files.ReadAll<float>(weight);
    }

    private string Base(JsonObject quantization, TinyTensor[] tensors) => TinyModel.Base(Temp["base"],
        new JsonObject { ["model_type"] = "tiny", ["quantization_config"] = quantization }.ToJsonString(), tensors);

    private static void Check(float[] values, int rows, int columns, Func<int, int, float> expected)
    {
        Assert.Equal(rows * columns, values.Length);
        for (var o = 0; o < rows; o++)
        {
            for (var i = 0; i < columns; i++)
            {
                Assert.True(expected(o, i) == values[(o * columns) + i],
                    $"[{o}, {i}]: {values[(o * columns) + i]} instead of {expected(o, i)}");
            }
        }
    }

    private byte[] Bytes(int count, int least = 0, int beyond = 256) =>
        [.. Enumerable.Range(0, count).Select(_ => (byte)_random.Next(least, beyond))];

    private static int Bit(byte[] bytes, long bit) => (bytes[bit / 8] >> (int)(bit % 8)) & 1;

    private static int Bits(int count, Func<int, int> bit) => Enumerable.Range(0, count).Sum(b => bit(b) << b);

    private static double E2M1(int code) => new[] { 0, 0.5, 1, 1.5, 2, 3, 4, 6 }[code & 7] * ((code & 8) == 0 ? 1 : -1);

    private static float Bf16(float value) => BitConverter.UInt32BitsToSingle((uint)Simd.StoredFloats.BFloat16(value) << 16);
}
