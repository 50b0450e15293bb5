namespace UnslothMerge.Tests.Saving;

/// <summary>The share of a delta that a quantized model keeps.</summary>
public sealed class DeltaSurvivalTests : FileTests
{
    [Theory]
    [InlineData(1, 0.9, 1.1)]
    [InlineData(0.01, -0.4, 0.4)]
    public void A_small_delta_is_lost_where_the_base_lies_on_the_grid(double size, double low, double high)
    {
        var random = new Random(1);
        var plan = new TinyModel(("model.layers.0.mlp.up_proj.weight", Numbers.Of([64, 64], (int _) => (2 * random.Next(2)) - 1)))
            .With("""{"r": 8, "lora_alpha": 8}""", TinyTensor.Lora("model.layers.0.mlp.up_proj",
                random.Scaled(1, 8, 64), random.Scaled(size, 64, 8))).Plan(Temp);
        var write = TinyModel.WritePlan(plan, TensorType.BF16, quantization: new FourBitRequest(null, false, null, null));
        var (kept, whole) = Assert.Single(Assert.Single(TinyModel.Save(write, Temp["out"])).Tensors).Figures.Survival!.Value;
        Assert.InRange(kept / whole, low, high);
    }

    public static TheoryData<string, string> Cases =>
    [
        .. Goldens.BaseFormatTests.Cases.Select(c => (c.Data, "base")),
        ("lora-all-linear", "nf4"), ("lora-all-linear", "fp8"), ("gpt2-fan-in", "nf4"),
    ];

    /// <summary>It is what the saved models decode to, with and without the deltas.</summary>
    [Theory, MemberData(nameof(Cases))]
    public void It_is_that_of_the_saved_models(string golden, string format)
    {
        var @case = new Goldens.GoldenCase(golden);
        var plan = TinyModel.Plan(@case.Base, [.. @case.Adapters.Select(a => a.Path)]);
        OutputRequest request = format switch
        {
            "nf4" => new FourBitRequest(null, null, null, null),
            "fp8" => new Fp8Request(null),
            _ => new BaseFormatRequest(),
        };
        var results = TinyModel.Requantize(plan, Temp["after"], request)
            .Where(r => r.Tensor.Action == TensorAction.Merge && r.Written.Sink.IsQuantized).ToList();
        TinyModel.Save(TinyModel.WritePlan(plan, quantization: request, tensors: plan.Tensors.Select(t =>
            t.Action == TensorAction.Merge ? t.WithStrength(0) with { Action = TensorAction.Merge } : t)), Temp["before"]);
        TinyModel.Save(TinyModel.WritePlan(plan, TensorType.F32), Temp["exact"]);
        var models = new[] { @case.Base, Temp["exact"], Temp["before"], Temp["after"] }.Select(TinyModel.Values).ToList();
        Assert.All(results.Where(r => models.TrueForAll(m => m.ContainsKey(r.Tensor.Name))), r =>
        {
            var (weight, exact, before, after) = (models[0][r.Tensor.Name], models[1][r.Tensor.Name], models[2][r.Tensor.Name],
                models[3][r.Tensor.Name]);
            var delta = exact.Zip(weight, (e, w) => (double)e - w).ToArray();
            var kept = after.Zip(before, (a, b) => (double)a - b).Zip(delta, (q, d) => q * d).Sum();
            var whole = delta.Sum(d => d * d);
            Assert.Equal(whole, r.Figures.Survival!.Value.Whole, 0.001 * whole);

            // With the scales of the merged model; a global one moves all others.
            Assert.Equal(kept, r.Figures.Survival.Value.Kept, (r.Tensor.Source.Format == "NVFP4" ? 0.1 : 0.02) * whole);
        });
    }

    [Fact]
    public void Nothing_is_measured_in_16_bits()
    {
        var plan = new TinyModel(("a.weight", Numbers.Of([1, 1], (int _) => 1))).WithLora("a", [1], [1]).Plan(Temp);
        Assert.Null(Assert.Single(Assert.Single(TinyModel.Save(TinyModel.WritePlan(plan), Temp["out"])).Tensors).Figures.Survival);
    }
}
