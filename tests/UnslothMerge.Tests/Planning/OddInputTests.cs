namespace UnslothMerge.Tests.Planning;

/// <summary>Bases and adapters that say what no library writes.</summary>
public sealed class OddInputTests : FileTests
{
    [Fact]
    public void What_goes_with_codes_does_not_take_the_name_of_another_tensor()
    {
        var model = new TinyModel(TinyTensor.Random("m.weight", [64, 64], 0),
            new TinyTensor("m.weight.absmax", TensorType.U8, [4], new byte[4])).WithLora(2, "m");
        Errors.Expect(MergeError.InvalidModel, () => TinyModel.WritePlan(
            model.Plan(Temp), TensorType.BF16, quantization: new FourBitRequest(null, null, null, null)), "'m.weight.absmax' would be");
    }

    [Theory]
    [InlineData("5", "layer_replication is 5, which is no list")]
    [InlineData("[[0, \"1\"]]", "replicates the layers [0,\"1\"]")]
    [InlineData("[5]", "replicates the layers 5")]
    public void Layers_are_repeated_by_ranges(string ranges, string said) => Repeat(ranges, said);

    [Fact]
    public void Layers_are_not_repeated_without_end() =>
        Repeat($"[{string.Join(", ", Enumerable.Repeat("[0, 1]", 20_000))}]", "replicates more than 16384 layers");

    private void Repeat(string ranges, string said)
    {
        var tensor = TinyTensor.Random("model.layers.0.m.weight", [4, 4], 0);
        var model = new TinyModel(tensor).With($$"""{"r": 1, "layer_replication": {{ranges}}}""",
            TinyTensor.Lora("model.layers.0.m", new Random(1).Scaled(1, 1, 4), new Random(2).Scaled(1, 4, 1)));
        Errors.Expect(MergeError.InvalidAdapter, () => model.Plan(Temp), said);
    }

    [Theory]
    [InlineData("true")]
    [InlineData("1")]
    public void Flags_may_be_numbers_for_the_merge_and_for_its_test(string flag)
    {
        var model = new TinyModel(TinyTensor.Random("m.weight", [8, 8], 0)).With(
            $$"""{"r": 4, "lora_alpha": 4, "use_rslora": {{flag}}}""",
            TinyTensor.Lora("m", new Random(1).Scaled(1, 4, 8), new Random(2).Scaled(1, 8, 4)));
        var plan = model.Plan(Temp);
        Assert.Equal(2, Assert.Single(plan.Tensors[0].Terms).Term.Scaling);
        TinyModel.Save(TinyModel.WritePlan(plan), Temp["out"]);
        Assert.All(ModelVerifier.Verify(plan, plan.Tensors, Temp["out"], new VerificationOptions(true, 2), null,
            TestContext.Current.CancellationToken), r => Assert.True(r.Passed, r.Detail));
    }
}
