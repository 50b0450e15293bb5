namespace UnslothMerge.Tests.Planning;

/// <summary>Strength 0 leaves a tensor as it is in the base, whatever changes it.</summary>
public sealed class StrengthTests : FileTests
{
    [Fact]
    public void A_dora_is_left_out_or_whole()
    {
        var plan = new TinyModel(("a.weight", Numbers.Of([2, 1], (int i) => i + 1))).With("""{"r": 1, "use_dora": true}""",
        [
            .. TinyTensor.Lora("a", Numbers.Of([1, 1], (int _) => 1), Numbers.Of([2, 1], (int _) => 1)),
            ("a.lora_magnitude_vector", Numbers.Of([2], (int _) => 5)),
        ]).Plan(Temp);
        Assert.Equal([1f, 2f], Saved(plan, "a.weight"));
        Errors.Expect(MergeError.InvalidOption, () => plan.Tensors[0].WithStrength(0.5), "or set it to 0");
    }

    [Fact]
    public void A_replacement_is_left_out()
    {
        var plan = new TinyModel(("norm.weight", Numbers.Of([1], (int _) => 1))).With("""{"r": 1}""",
            ("norm.weight", Numbers.Of([1], (int _) => 2))).Plan(Temp);
        Assert.Equal(TensorAction.Replace, plan.Tensors[0].Action);
        Assert.Equal([1f], Saved(plan, "norm.weight"));
    }

    private float[] Saved(MergePlan plan, string tensor)
    {
        TinyModel.Save(TinyModel.WritePlan(plan, TensorType.F32, tensors: plan.Tensors.Select(t => t.WithStrength(0))), Temp["out"]);
        return Verification.Damage.Read(Temp["out"], tensor);
    }
}
