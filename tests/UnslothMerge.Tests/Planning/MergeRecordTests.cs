using UnslothMerge.Verification;

namespace UnslothMerge.Tests.Planning;

/// <summary>merge.json: what it says, and that no adapter is merged twice.</summary>
public sealed class MergeRecordTests : FileTests
{
    public MergeRecordTests()
    {
        TinyModel.Base(Temp["base"], TinyTensor.F32("a.weight", [1, 1], 1));
        Adapter("one", 1);
        Adapter("two", 2);
        Save(Temp["base"], "out", "one");
    }

    [Fact]
    public void It_names_base_and_adapters_but_no_path()
    {
        var text = File.ReadAllText(Temp["out/merge.json"]);
        Assert.DoesNotContain(Temp.Path, text, StringComparison.Ordinal);
        var record = JsonNode.Parse(text)!;
        Assert.Matches("^[0-9a-f]{64}$", (string?)record["base"]!["header_sha256"]);
        Assert.Matches("^[0-9a-f]{64}$", (string?)record["adapters"]![0]!["sha256"]);
        Assert.Equal(1, (double?)record["adapters"]![0]!["weight"]);
        Assert.Equal("merged_16bit", (string?)record["options"]!["method"]);
        Save(Temp["base"], "again", "one");
        Assert.Equal(text, File.ReadAllText(Temp["again/merge.json"]));
    }

    [Fact]
    public void An_adapter_is_not_merged_into_its_own_result()
    {
        Assert.Contains("merge.json", Refused(Temp["out"], "one").Message, StringComparison.Ordinal);
        Save(Temp["out"], "both", "two");
        Assert.Equal(MergeError.MergedBase, Refused(Temp["both"], "one").Error);
        Assert.Equal(MergeError.MergedBase, Refused(Temp["both"], "two").Error);
        Assert.Single(Plan(Temp["out"], "one", allow: true).Steps);
    }

    [Fact]
    public void A_folder_of_adapter_and_merged_model_is_no_base_for_it()
    {
        File.Copy(Temp["base/model.safetensors"], Temp["one/model.safetensors"]);
        File.Copy(Temp["base/config.json"], Temp["one/config.json"]);
        Refused(Temp["one"], "one");
        Assert.Single(Plan(Temp["one"], "two").Steps);
        File.WriteAllText(Temp["one/adapter_model.pt"], "");
        Refused(Temp["one"], "two");
    }

    [Fact]
    public void A_test_compares_it_with_the_merge()
    {
        Assert.True(Check("one"));
        Assert.False(Check("two"));
    }

    private bool? Check(string adapter) => ModelVerifier.Verify(Plan(Temp["base"], adapter), [], Temp["out"],
        new VerificationOptions(false, 1), null, TestContext.Current.CancellationToken).Single(r => r.Check == "Record").Passed;

    private MergeException Refused(string @base, string adapter)
    {
        var error = Errors.Expect(MergeError.MergedBase, () => Plan(@base, adapter));
        return error;
    }

    private void Adapter(string name, float value) => TinyModel.Adapter(Temp[name],
        """{"peft_type": "LORA", "r": 1, "lora_alpha": 1}""",
        TinyTensor.F32("base_model.model.a.lora_A.weight", [1, 1], 1),
        TinyTensor.F32("base_model.model.a.lora_B.weight", [1, 1], value));

    private MergePlan Plan(string @base, string adapter, bool allow = false) => MergePlanner.Plan(ModelDirectory.Open(@base),
        [new AdapterStep(AdapterDirectory.Open(Temp[adapter]), 1)], new PlanOptions { AllowMergedBase = allow });

    private void Save(string @base, string output, string adapter) =>
        TinyModel.Save(TinyModel.WritePlan(Plan(@base, adapter), TensorType.F32), Temp[output]);
}
