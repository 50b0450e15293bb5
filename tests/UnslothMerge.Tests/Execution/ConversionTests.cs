using UnslothMerge.Tests.Simd;

namespace UnslothMerge.Tests.Execution;

/// <summary>A save without adapters: the dtype changes, with one rounding, or the bytes stay.</summary>
public sealed class ConversionTests : FileTests
{
    // Ties, both sides of them, subnormal numbers of every dtype, the largest of F16, signed zeros.
    private static readonly double[] Values =
    [
        0, -0.0, 1, -1, 1.00390625, 1.005859375, 1.01171875, 1 + 1.0 / 2048, 1 + 3.0 / 2048, 1.0000001, 0.1, -0.3, 65504, 65519, -65504,
            6.1e-5, 5.96e-8, 2.98e-8, 2.99e-8, 1e-10, 1e-40, 1 / 3.0, 3.14159265358979,
    ];

    public static IReadOnlyCollection<ITheoryDataRow> Pairs =>
        new MatrixTheoryData<TensorType, TensorType>(
            [TensorType.F16, TensorType.BF16, TensorType.F32, TensorType.F64], [TensorType.F16, TensorType.BF16, TensorType.F32]);

    [Theory, MemberData(nameof(Pairs))]
    internal void Values_are_rounded_once(TensorType from, TensorType to)
    {
        // BF16 has no 65504: it becomes 65536, which F16 has not.
        var stored = PassRule.Decode(from, [.. Values.SelectMany(v => Encode(v, from))])
            .Where(v => to != TensorType.F16 || Math.Abs(v) < 65520).ToArray();
        var saved = Save(to, new TinyTensor("m.weight", from, [stored.Length], [.. stored.SelectMany(v => Encode(v, from))]));
        Assert.Equal(to, saved.Type);
        Assert.Equal(stored.SelectMany(v => Encode(v, to)), Read(saved));
    }

    [Theory]
    [InlineData(TensorType.F16, TensorType.BF16)]
    [InlineData(TensorType.F16, TensorType.F32)]
    [InlineData(TensorType.BF16, TensorType.F16)]
    [InlineData(TensorType.BF16, TensorType.F32)]
    [InlineData(TensorType.F32, TensorType.BF16)]
    [InlineData(TensorType.F64, TensorType.F32)]
    internal void A_base_that_is_not_finite_is_named_when_it_must_be_converted(TensorType from, TensorType to)
    {
        foreach (var value in new[] { double.NaN, double.PositiveInfinity, double.NegativeInfinity })
        {
            Errors.Expect(MergeError.NonFiniteResult,
                () => Save(to, new TinyTensor("m.weight", from, [2], [.. Encode(1, from), .. Encode(value, from)])), "'m.weight'");
        }
    }

    [Theory]
    [InlineData(TensorType.F32, 65520)]
    [InlineData(TensorType.BF16, 70000)]
    [InlineData(TensorType.F64, -1e300)]
    internal void A_value_beyond_the_range_is_named(TensorType from, double value)
    {
        Errors.Expect(MergeError.NonFiniteResult, () => Save(TensorType.F16, new TinyTensor("m.weight", from, [1], Encode(value, from))),
            "bfloat16");
    }

    [Theory]
    [InlineData(TensorType.F16)]
    [InlineData(TensorType.BF16)]
    [InlineData(TensorType.F32)]
    internal void A_tensor_that_stays_as_it_is_keeps_even_its_nans(TensorType type)
    {
        byte[] bits = [.. Encode(double.NaN, type), .. Encode(double.PositiveInfinity, type),
            .. Enumerable.Repeat((byte)0xFF, type.Bits() / 8)];
        Assert.Equal(bits, Read(Save(type, new TinyTensor("m.weight", type, [3], bits))));
    }

    [Fact]
    public void Without_a_dtype_a_16_bit_model_keeps_each_tensors_own_and_a_32_bit_one_becomes_bf16()
    {
        TinyModel.Base(Temp["mixed"], TinyTensor.BF16("a.weight", [1], 0x3F80), TinyTensor.F32("b.weight", [1], 1.0000001f));
        TinyModel.Base(Temp["wide"], TinyTensor.F32("b.weight", [1], 1.0000001f));
        TinyModel.Save(TinyModel.WritePlan(TinyModel.Plan(Temp["mixed"])), Temp["out1"]);
        TinyModel.Save(TinyModel.WritePlan(TinyModel.Plan(Temp["wide"])), Temp["out2"]);
        Assert.Equal([TensorType.F32, TensorType.BF16], Checkpoint.Open(Temp["out1"]).Tensors.Select(t => t.Type));
        Assert.Equal([TensorType.BF16], Checkpoint.Open(Temp["out2"]).Tensors.Select(t => t.Type));
        Assert.Contains("\"bfloat16\"", File.ReadAllText(Temp["out2/config.json"]), StringComparison.Ordinal);
    }

    private StoredTensor Save(TensorType to, TinyTensor tensor)
    {
        using var fresh = new TemporaryDirectory();
        var output = Path.Combine(Temp.Path, Path.GetFileName(fresh.Path));
        TinyModel.Save(TinyModel.WritePlan(TinyModel.Plan(TinyModel.Base(fresh["base"], tensor)), to), output);
        return Checkpoint.Open(output).Find(tensor.Name)!;
    }

    private static byte[] Read(StoredTensor tensor)
    {
        using var files = new InputFiles();
        return files.ReadAll(tensor);
    }

    // .NET's own conversions round to nearest, ties to even.
    private static byte[] Encode(double value, TensorType type) => type switch
    {
        TensorType.F16 => BitConverter.GetBytes((Half)value),
        TensorType.BF16 => BitConverter.GetBytes(StoredFloats.BFloat16(value)),
        TensorType.F32 => BitConverter.GetBytes((float)value),
        _ => BitConverter.GetBytes(value),
    };
}
