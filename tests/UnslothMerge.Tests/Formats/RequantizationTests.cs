namespace UnslothMerge.Tests.Formats;

/// <summary>encode(decode(x)) = x for every format that is written back, over random shapes, blocks and values.</summary>
public sealed class RequantizationTests : FileTests
{
    private static readonly float[] SpecialScales = [1, 0.00390625f, 3e-5f, 1e-30f, 448, 0.3333333f];

    public static TheoryData<string> All =>
        ["block", "tensor", "channel", "experts", "e5m2", "int8", "llm.int8", "int4", "int3", "asymmetric", "act-order", "nvfp4", "mxfp4",
            "gpt-oss", "gptq", "gptq3", "gptq8", "awq", "nf4", "fp4"];

    [Theory, MemberData(nameof(All))]
    public void What_was_decoded_is_encoded_as_it_was(string format) =>
        Gen.Select(Gen.Int[1, 70], Gen.Int[1, 6], Gen.Int).Sample((rows, groups, seed) =>
        {
            using var directory = new TemporaryDirectory();
            TinyModel.Requantize(Model(format, rows, groups, new Random(seed)).Plan(directory), directory["out"], new BaseFormatRequest(),
                computed: true);
            Assert.Equal(TinyModel.Stored(directory["base"]), TinyModel.Stored(directory["out"]));
        },
        iter: 10, threads: 1);

    [Theory]
    [InlineData("block", 0.04)]
    [InlineData("tensor", 0.04)]
    [InlineData("channel", 0.04)]
    [InlineData("e5m2", 0.08)]
    [InlineData("int8", 0.03)]
    [InlineData("llm.int8", 0.03)]
    [InlineData("int4", 0.15)]
    [InlineData("int3", 0.3)]
    [InlineData("asymmetric", 0.15)]
    [InlineData("act-order", 0.15)]
    [InlineData("nvfp4", 0.15)]
    [InlineData("mxfp4", 0.2)]
    [InlineData("gptq", 0.15)]
    [InlineData("awq", 0.15)]
    public void What_outgrows_its_scales_gets_larger_ones_and_keeps_its_zero_points(string format, double most) =>
        Gen.Select(Gen.Int[20, 70], Gen.Int[2, 6], Gen.Int).Sample((rows, groups, seed) =>
        {
                using var directory = new TemporaryDirectory();
            var random = new Random(seed);
            var model = Model(format, rows, groups, random, ordinary: true);
            var columns = (int)model.Plan(directory).Tensors.Single(t => t.Name == "m.weight").Shape[1];
            var before = TinyModel.Values(directory["base"])["m.weight"];
            var (a, b) = (Array.ConvertAll(new float[columns], _ => (float)random.NextDouble() - 0.5f),
                Array.ConvertAll(new float[before.Length / columns], _ => 40 * before.Max(MathF.Abs) * (float)(random.NextDouble() - 0.5)));
            var result = Assert.Single(
                TinyModel.Requantize(model.WithLora("m", a, b).Plan(directory), directory["out"], new BaseFormatRequest()));

            var after = TinyModel.Values(directory["out"])["m.weight"];
            var wanted = before.Select((v, i) => v + ((double)b[i / columns] * a[i % columns])).ToArray();
            var error = Math.Sqrt(wanted.Zip(after, (w, v) => Math.Pow(w - v, 2)).Sum() / wanted.Sum(w => w * w));
            Assert.InRange(error, 0, most);
            Assert.Equal(error, result.Figures.RelativeError!.Value, 1e-3);
            var (zeros, kept) = (TinyModel.Stored(directory["base"]), TinyModel.Stored(directory["out"]));
            Assert.All(zeros.Keys.Where(n =>
                n.Contains("zero", StringComparison.Ordinal) || n.EndsWith("g_idx", StringComparison.Ordinal)), n =>
                Assert.Equal(zeros[n], kept[n]));
        },
        iter: 6, threads: 1);

    [Fact]
    public void Scales_that_are_powers_of_two_stay_that()
    {
        var plan = TinyModel.Quantized(
            """{"quant_method": "fp8", "weight_block_size": [2, 2], "scale_fmt": "ue8m0"}""",
            new("m.weight", TensorType.F8_E4M3, [2, 4], [0x70, 0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77]),
            TinyTensor.F32("m.weight_scale_inv", [1, 2], 0.25f, 0.5f)).WithLora("m", [1000, 0, 0, 0], [1, 0]).Plan(Temp);
        TinyModel.Requantize(plan, Temp["out"], new BaseFormatRequest());

        // (1000 + 32) / 448 is 2.3: up to 4. The other block has room for what it holds.
        using var files = new InputFiles();
        Assert.Equal([4f, 0.5f], files.ReadAll<float>(Checkpoint.Open(Temp["out"]).Find("m.weight_scale_inv")!));
    }

    [Fact]
    public void A_scale_of_a_tensor_of_many_pieces_is_found_before_the_first_is_written()
    {
        const int rows = 3000, columns = 400;
        var random = new Random(5);
        var codes = new byte[rows * columns];
        random.NextBytes(codes);
        codes = Array.ConvertAll(codes, c => (byte)(c & 0xBF));
        var model = TinyModel.Quantized("""{"quant_method": "fp8"}""", new("m.weight", TensorType.F8_E4M3, [rows, columns], codes),
            TinyTensor.F32("m.weight_scale", [], 0.01f));

        // What nothing changes is as it was, whichever worker has which piece.
        TinyModel.Requantize(model.Plan(Temp), Temp["same"], new BaseFormatRequest(), computed: true);
        Assert.Equal(TinyModel.Stored(Temp["base"]), TinyModel.Stored(Temp["same"]));

        // One value in the last row is the largest by far.
        var (a, b) = (new float[columns], new float[rows]);
        (a[^1], b[^1]) = (100, 1);
        TinyModel.Requantize(model.WithLora("m", a, b).Plan(Temp), Temp["out"], new BaseFormatRequest());
        var (before, after) = (TinyModel.Values(Temp["base"])["m.weight"], TinyModel.Values(Temp["out"])["m.weight"]);
        Assert.Equal(before[^1] + 100, after[^1], 1e-3f);
        Assert.All(before.Zip(after).SkipLast(1),
            p => Assert.Equal(p.First, p.Second, (0.0625f * Math.Abs(p.First)) + (0.002f * after[^1] / 448)));
    }

    [Fact]
    public void Companions_of_a_repeated_layer_take_its_name()
    {
        StoredTensor Stored(string name) => new(name, TensorType.U8, [1], new StoredFile("x", default), 0, 1);
        Assert.Equal(
            ["layers.7.up.weight_packed", "layers.7.up.weight_scale", "layers.7.experts_scales", "weight.absmax"],
            [
                CopySink.Output("layers.7.up.weight", Stored("layers.1.up.weight_packed"), Stored("layers.1.up.weight_packed")).Name,
                CopySink.Output("layers.7.up.weight", Stored("layers.1.up.weight_packed"), Stored("layers.1.up.weight_scale")).Name,
                CopySink.Output("layers.7.experts", Stored("layers.1.experts_blocks"), Stored("layers.1.experts_scales")).Name,
                CopySink.Output("weight", Stored("weight"), Stored("weight.absmax")).Name,
            ]);
    }

    private static TinyModel Model(string format, int rows, int groups, Random random, bool ordinary = false)
    {
        switch (format)
        {
            case "block":
                var (bm, bn) = (random.Next(1, 40), random.Next(1, 40));
                var columns = groups * 17;
                return TinyModel.Quantized($$"""{"quant_method": "fp8", "weight_block_size": [{{bm}}, {{bn}}]}""",
                    E4M3("m.weight", [rows, columns]), Scales("m.weight_scale_inv", [Up(rows, bm), Up(columns, bn)]));
            case "tensor":
                return TinyModel.Quantized("""{"quant_method": "fp8"}""", E4M3("m.weight", [rows * 20, groups * 7]),
                    Scales("m.weight_scale", []), Scales("m.input_scale", []));
            case "experts":
                return TinyModel.Quantized("""{"quant_method": "fp8", "weight_block_size": [16, 16]}""",
                    E4M3("m.experts", [3, rows, groups * 9]), Scales("m.experts_scale_inv", [3, Up(rows, 16), Up(groups * 9, 16)]));
            case "e5m2":
                return TinyModel.Quantized("""{"quant_method": "fp8", "weight_block_size": [8, 8]}""",
                    new("m.weight", TensorType.F8_E5M2, [rows, groups * 5],
                        Bytes(rows * groups * 5, b => (byte)((b & 0x7C) == 0x7C ? b & 0x83 : b))),
                        Scales("m.weight_scale_inv", [Up(rows, 8), Up(groups * 5, 8)]));
            case "channel":
                return TinyModel.Quantized(Compressed("float-quantized"), E4M3("m.weight", [rows, groups * 9]),
                    BFloat16Scales("m.weight_scale", [rows, 1]));
            case "int8":
                return TinyModel.Quantized(Compressed("int-quantized"),
                    new("m.weight", TensorType.I8, [rows, groups * 9], Bytes(rows * groups * 9)),
                    BFloat16Scales("m.weight_scale", [rows, 1]));
            case "llm.int8":
                return TinyModel.Quantized(
                    """{"quant_method": "bitsandbytes", "load_in_8bit": true}""",
                    new("m.weight", TensorType.I8, [rows, groups * 9], Bytes(rows * groups * 9, b => b == 0x80 ? (byte)1 : b)),
                    Scales("m.SCB", [rows]),
                    new("m.weight_format", TensorType.U8, [], [0]));
            case "int4" or "int3" or "asymmetric" or "act-order":
                var bits = format == "int3" ? 3 : 4;
                var inputs = groups * 32;
                List<TinyTensor> packed =
                [
                    new("m.weight_packed", TensorType.I32, [rows, Up(inputs * bits, 32)], Bytes(rows * (int)Up(inputs * bits, 32) * 4)),
                    new("m.weight_shape", TensorType.I64, [2], [.. MemoryMarshal.AsBytes<long>([rows, inputs])]),
                    BFloat16Scales("m.weight_scale", [rows, groups]),
                ];
                if (format == "asymmetric")
                {
                    packed.Add(new("m.weight_zero_point", TensorType.I32, [Up(rows * bits, 32), groups],
                        Zeros((int)Up(rows * bits, 32) * groups * 4)));
                }

                if (format == "act-order")
                {
                    packed.Add(Order("m.weight_g_idx", inputs));
                }

                return TinyModel.Quantized(Compressed("pack-quantized", bits), [.. packed]);
            case "nvfp4":
                return TinyModel.Quantized(
                    Compressed("nvfp4-pack-quantized", 4),
                    new("m.weight_packed", TensorType.U8, [rows, groups * 8], Bytes(rows * groups * 8)),
                    new("m.weight_scale", TensorType.F8_E4M3, [rows, groups],
                        Bytes(rows * groups, b => (byte)Math.Clamp(b & 0x7F, 1, 0x7E))),
                    TinyTensor.F32("m.weight_global_scale", [1], 700f));
            case "mxfp4":
                return TinyModel.Quantized(Compressed("mxfp4-pack-quantized", 4),
                    new("m.weight_packed", TensorType.U8, [rows, groups * 16], Bytes(rows * groups * 16)),
                    Powers("m.weight_scale", [rows, groups]));
            case "gpt-oss":
                return TinyModel.Quantized("""{"quant_method": "mxfp4"}""",
                    new("m.experts_blocks", TensorType.U8, [2, rows, groups, 16], Bytes(2 * rows * groups * 16)),
                    Powers("m.experts_scales", [2, rows, groups]));
            case "gptq" or "gptq8" or "gptq3":
                var b = format switch { "gptq8" => 8, "gptq3" => 3, _ => 4 };
                var (input, output) = (groups * 32, Up(rows, 32) * 32);
                return TinyModel.Quantized(
                    $$"""{"quant_method": "gptq", "bits": {{b}}, "group_size": 32, "checkpoint_format":""" +
                    $$""" "{{(random.Next(2) == 0 ? "gptq" : "gptq_v2")}}"}""",
                    new("m.qweight", TensorType.I32, [input * b / 32, output], Bytes((int)(input * b / 32 * output) * 4)),
                    new("m.qzeros", TensorType.I32, [groups, output * b / 32], Zeros((int)(groups * output * b / 32) * 4)),
                    HalfScales("m.scales", [groups, output]),
                    Order("m.g_idx", input));
            case "awq":
                var outputs = Up(rows, 8) * 8;
                return TinyModel.Quantized(
                    """{"quant_method": "awq", "bits": 4, "group_size": 16, "version": "gemm"}""",
                    new("m.qweight", TensorType.I32, [groups * 16, outputs / 8], Bytes((int)(groups * 16 * outputs / 2))),
                    new("m.qzeros", TensorType.I32, [groups, outputs / 8], Zeros((int)(groups * outputs / 2))),
                    HalfScales("m.scales", [groups, outputs]));
            default:
                return FourBit(format, rows, groups * 11, random);
        }

        static long Up(long count, long size) => (count + size - 1) / size;

        static string Compressed(string format, int bits = 8) =>
            $$$"""{"quant_method": "compressed-tensors", "format": "{{{format}}}", "config_groups": {"group_0": {"targets":""" +
            $$$""" ["Linear"], "weights": {"num_bits": {{{bits}}} } } } }""";

        // Any bytes, with runs of zeros, of one value, and of the largest ones among them.
        byte[] Bytes(int count, Func<byte, byte>? allowed = null)
        {
            var bytes = new byte[count];
            random.NextBytes(bytes);
            for (var runs = random.Next(4); runs > 0 && count > 0; runs--)
            {
                bytes.AsSpan(random.Next(count)).Fill(new byte[] { 0, 0xFF, 0x7E, 0xFE, 0x01, (byte)random.Next(256) }[random.Next(6)]);
            }

            return allowed is null ? bytes : Array.ConvertAll(bytes, b => allowed(b));
        }

        byte[] Zeros(int count) => ordinary ? [.. Enumerable.Repeat((byte)0x77, count)] : Bytes(count);

        TinyTensor E4M3(string name, long[] shape) =>
            new(name, TensorType.F8_E4M3, shape, Bytes((int)shape.Count(), b => (byte)((b & 0x7F) == 0x7F ? b & 0x80 : b)));

        float Scale() =>
            !ordinary && random.Next(4) == 0
            ? SpecialScales[random.Next(SpecialScales.Length)] : (float)Math.Pow(10, -6 * random.NextDouble());

        TinyTensor Scales(string name, long[] shape) =>
            TinyTensor.F32(name, shape, [.. Enumerable.Range(0, (int)shape.Count()).Select(_ => Scale())]);

        TinyTensor BFloat16Scales(string name, long[] shape) =>
            TinyTensor.BF16(name, shape,
                [.. Enumerable.Range(0, (int)shape.Count()).Select(_ => (ushort)(BitConverter.SingleToUInt32Bits(Scale()) >> 16))]);

        TinyTensor HalfScales(string name, long[] shape) =>
            new(name, TensorType.F16, shape,
                [.. Enumerable.Range(0, (int)shape.Count()).SelectMany(_ => BitConverter.GetBytes((Half)Math.Max(Scale(), 1e-6f)))]);

        TinyTensor Powers(string name, long[] shape) =>
            new(name, TensorType.U8, shape,
                [.. Enumerable.Range(0, (int)shape.Count()).Select(_ => (byte)(ordinary ? random.Next(110, 128) : random.Next(0, 250)))]);

        TinyTensor Order(string name, int count)
        {
            var order = Enumerable.Range(0, count).Select(i => i / 32).ToArray();
            random.Shuffle(order);
            return new TinyTensor(name, TensorType.I32, [count], [.. MemoryMarshal.AsBytes<int>(order)]);
        }
    }

    // Each block holds its absmax, as every block that was quantized does.
    private static TinyModel FourBit(string format, int rows, int columns, Random random)
    {
        var book = FourBitCodes.Of(format);
        var (elements, block) = (rows * columns, 32 << random.Next(3));
        var blocks = (elements + block - 1) / block;
        var codes = Enumerable.Range(0, elements)
            .Select(i =>
                (byte)(i % block == 0 ? book.Values.Span.IndexOf(random.Next(2) == 0 && format == "nf4" ? -1f : 1f) : random.Next(16)))
                .ToArray();
        codes = Array.ConvertAll(codes, c => book.Values.Span[c] == 0 ? (byte)book.Values.Span.IndexOf(0f) : c);
        var packed = Enumerable.Range(0, (elements + 1) / 2)
            .Select(i => (byte)((codes[2 * i] << 4) | ((2 * i) + 1 < elements ? codes[(2 * i) + 1] : 0))).ToArray();
        var state = Encoding.UTF8.GetBytes(
            $$"""{"quant_type": "{{format}}", "blocksize": {{block}}, "dtype": "bfloat16", "shape": [{{rows}}, {{columns}}]}""");
        return TinyModel.Quantized(
            $$"""{"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "{{format}}"}""",
            new("m.weight", TensorType.U8, [packed.Length, 1], packed),
            TinyTensor.F32("m.weight.absmax", [blocks],
                [.. Enumerable.Range(0, blocks).Select(_ => MathF.ScaleB(1 + (random.Next(128) / 128f), random.Next(-20, 3)))]),
            TinyTensor.F32("m.weight.quant_map", [16], book.Values.ToArray()),
            new($"m.weight.quant_state.bitsandbytes__{format}", TensorType.U8, [state.Length], state));
    }
}
