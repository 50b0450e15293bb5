using UnslothMerge.Verification;

namespace UnslothMerge.Tests.Planning;

/// <summary>merge.json: what it says, and that no adapter is merged twice.</summary>
public sealed class MergeRecordTests : IDisposable
{
    private readonly TemporaryDirectory _directory = new();

    public MergeRecordTests()
    {
        TinyModel.Base(_directory["base"], TinyTensor.F32("a.weight", [1, 1], 1));
        Adapter("one", 1);
        Adapter("two", 2);
        Save(_directory["base"], "out", "one");
    }

    public void Dispose() => _directory.Dispose();

    [Fact]
    public void It_names_base_and_adapters_but_no_path()
    {
        var text = File.ReadAllText(_directory["out/merge.json"]);
        Assert.DoesNotContain(_directory.Path, text, StringComparison.Ordinal);
        var record = JsonNode.Parse(text)!;
        Assert.Matches("^[0-9a-f]{64}$", (string?)record["base"]!["header_sha256"]);
        Assert.Matches("^[0-9a-f]{64}$", (string?)record["adapters"]![0]!["sha256"]);
        Assert.Equal(1, (double?)record["adapters"]![0]!["weight"]);
        Assert.Equal("merged_16bit", (string?)record["options"]!["method"]);
        Save(_directory["base"], "again", "one");
        Assert.Equal(text, File.ReadAllText(_directory["again/merge.json"]));
    }

    [Fact]
    public void An_adapter_is_not_merged_into_its_own_result()
    {
        Assert.Contains("merge.json", Refused(_directory["out"], "one").Message, StringComparison.Ordinal);
        Save(_directory["out"], "both", "two");
        Assert.Equal(MergeError.MergedBase, Refused(_directory["both"], "one").Error);
        Assert.Equal(MergeError.MergedBase, Refused(_directory["both"], "two").Error);
        Assert.Single(Plan(_directory["out"], "one", allow: true).Steps);
    }

    [Fact]
    public void A_folder_of_adapter_and_merged_model_is_no_base_for_it()
    {
        File.Copy(_directory["base/model.safetensors"], _directory["one/model.safetensors"]);
        File.Copy(_directory["base/config.json"], _directory["one/config.json"]);
        Refused(_directory["one"], "one");
        Assert.Single(Plan(_directory["one"], "two").Steps);
        File.WriteAllText(_directory["one/adapter_model.pt"], "");
        Refused(_directory["one"], "two");
    }

    [Fact]
    public void A_test_compares_it_with_the_merge()
    {
        Assert.True(Check("one"));
        Assert.False(Check("two"));
    }

    private bool? Check(string adapter) => ModelVerifier.Verify(Plan(_directory["base"], adapter), [], _directory["out"],
        new VerificationOptions(false, 1), null, TestContext.Current.CancellationToken).Single(r => r.Check == "Record").Passed;

    private MergeException Refused(string @base, string adapter)
    {
        var error = Assert.Throws<MergeException>(() => Plan(@base, adapter));
        Assert.Equal(MergeError.MergedBase, error.Error);
        return error;
    }

    private void Adapter(string name, float value) => TinyModel.Adapter(_directory[name],
        """{"peft_type": "LORA", "r": 1, "lora_alpha": 1}""",
        TinyTensor.F32("base_model.model.a.lora_A.weight", [1, 1], 1),
        TinyTensor.F32("base_model.model.a.lora_B.weight", [1, 1], value));

    private MergePlan Plan(string @base, string adapter, bool allow = false) => MergePlanner.Plan(ModelDirectory.Open(@base),
        [new AdapterStep(AdapterDirectory.Open(_directory[adapter]), 1)], new PlanOptions { AllowMergedBase = allow });

    private void Save(string @base, string output, string adapter) =>
        TinyModel.Save(TinyModel.WritePlan(Plan(@base, adapter), TensorType.F32), _directory[output]);
}
