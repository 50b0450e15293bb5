using UnslothMerge.Tests.Verification;

namespace UnslothMerge.Tests.Adapters;

/// <summary>Files beside an adapter that can hold trained weights: each is merged, known to be none, or refused.</summary>
public sealed class TrainedFilesTests : FileTests
{
    private const string Config = """{"peft_type": "LORA", "r": 1, "lora_alpha": 1}""";
    public TrainedFilesTests()
    {
        TinyModel.Base(Temp["base"], TinyTensor.F32("model.a.weight", [1, 1], 1), TinyTensor.F32("model.norm.weight", [1], 2));
        TinyModel.Adapter(Temp["adapter"], Config, TinyTensor.F32("base_model.model.model.a.lora_A.weight", [1, 1], 1),
            TinyTensor.F32("base_model.model.model.a.lora_B.weight", [1, 1], 1));
    }

    [Theory]
    [InlineData("vit.safetensors", "base_model.model.model.norm.weight")]
    [InlineData("norms-of-some-trainer.safetensors", "model.norm.weight")]
    public void Whole_tensors_replace_the_bases(string file, string name)
    {
        Beside(file, TinyTensor.F32(name, [1], 3));
        var plan = Plan();
        Assert.Equal(TensorAction.Replace, plan.Tensors.Single(t => t.Name == "model.norm.weight").Action);
        Assert.Contains(plan.Targets, t => t is { Outcome: AdapterOutcome.Replaced, Tensor: "model.norm.weight" });
        Save(plan);
        Assert.Equal([3f], Damage.Read(Temp["out"], "model.norm.weight"));
    }

    [Theory]
    [InlineData("heads.safetensors", "model.other.weight", "the base has no model.other.weight")]
    [InlineData("mtp_head.safetensors", "norm.weight", "mtp_head.json")]
    public void What_the_base_does_not_have_is_refused(string file, string name, string why)
    {
        Beside(file, TinyTensor.F32(name, [1], 3));
        Errors.Expect(() => Plan(), why);
    }

    [Theory]
    [InlineData("weights.npz")]
    [InlineData("weights.pt")]
    public void What_cannot_be_read_is_refused(string file)
    {
        File.WriteAllText(Temp[$"adapter/{file}"], "?");
        Assert.Contains(file, Assert.ThrowsAny<MergeException>(Plan).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("optimizer.pt")]
    [InlineData("rng_state_0.pth")]
    [InlineData("training_args.bin")]
    [InlineData("adapter_model.bin")]
    [InlineData("0000100_adapters.safetensors")]
    public void What_only_training_needs_is_left_alone(string file)
    {
        File.WriteAllText(Temp[$"adapter/{file}"], "?");
        Assert.Equal(2, Plan().Tensors.Count);
    }

    [Fact]
    public void A_tensor_that_is_in_the_adapter_too_counts_once()
    {
        const string Name = "base_model.model.model.norm.weight";
        TinyModel.Adapter(Temp["adapter"], Config, TinyTensor.F32(Name, [1], 3));
        Beside("vit.safetensors", TinyTensor.F32(Name, [1], 3));
        Assert.Single(Plan().Targets);
        Beside("vit.safetensors", TinyTensor.F32(Name, [1], 4));
        Errors.Expect(() => Plan(), Name);
    }

    [Fact]
    public void A_head_for_multi_token_prediction_is_added_and_declared()
    {
        Beside("mtp_head.safetensors", TinyTensor.F32("fc.weight", [1, 1], 3), TinyTensor.F32("norm.weight", [1], 4));
        File.WriteAllText(Temp["adapter/mtp_head.json"], """{"format_version": 1, "num_layers": 2, "prefix": "mtp."}""");
        Save(Plan());
        Assert.Equal([3f], Damage.Read(Temp["out"], "mtp.fc.weight"));
        Assert.Equal([4f], Damage.Read(Temp["out"], "mtp.norm.weight"));
        Assert.Equal([2f], Damage.Read(Temp["out"], "model.norm.weight"));
        Assert.Equal(2, (int)ModelDirectory.Open(Temp["out"]).Config.ToJson()["mtp_num_hidden_layers"]!);
        Errors.Expect(() => Plan(0.5), "cannot be weighted");
    }

    [Fact]
    public void The_method_lora_takes_them_along()
    {
        Beside("vit.safetensors", TinyTensor.F32("model.norm.weight", [1], 3));
        TinyModel.SaveAdapter(Plan(), Temp["out"]);
        Assert.Equal(3, AdapterDirectory.Open(Temp["out"]).Tensors.Count());
    }

    private void Beside(string file, params TinyTensor[] tensors) => TinyModel.WriteFile(Temp[$"adapter/{file}"], tensors);

    private MergePlan Plan() => Plan(1);

    private MergePlan Plan(double weight) => MergePlanner.Plan(
        ModelDirectory.Open(Temp["base"]), [new AdapterStep(AdapterDirectory.Open(Temp["adapter"]), weight)]);

    private void Save(MergePlan plan) => TinyModel.Save(TinyModel.WritePlan(plan, TensorType.F32), Temp["out"]);
}
