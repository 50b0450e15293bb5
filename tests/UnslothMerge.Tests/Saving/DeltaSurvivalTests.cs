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
        Assert.Empty(Directory.EnumerateDirectories(Temp["out"]));
    }

    [Fact]
    public void Nothing_is_measured_in_16_bits()
    {
        var plan = new TinyModel(("a.weight", Numbers.Of([1, 1], (int _) => 1))).WithLora("a", [1], [1]).Plan(Temp);
        Assert.Null(Assert.Single(Assert.Single(TinyModel.Save(TinyModel.WritePlan(plan), Temp["out"])).Tensors).Figures.Survival);
    }
}
