namespace UnslothMerge.Tests.Adapters.Scenarios;

/// <summary>What cannot be merged is refused by name, with the reason.</summary>
public sealed class KindRefusalTests
{
    private static readonly Values Weight = new([2, 4], new double[8]);

    public static TheoryData<string, string> Kinds => new()
    {
        { "PROMPT_TUNING", "trained tokens" },
        { "MULTITASK_PROMPT_TUNING", "trained tokens" },
        { "P_TUNING", "trained tokens" },
        { "CPT", "trained tokens" },
        { "PREFIX_TUNING", "keys and values" },
        { "CARTRIDGE", "keys and values" },
        { "ADAPTION_PROMPT", "attention" },
        { "XLORA", "by the input" },
        { "POLY", "task" },
        { "LILY", "by the input" },
        { "ADAMSS", "KMeans" },
        { "PSOFT", "singular vectors" },
        { "SOMETHING_NEW", "not known" },
    };

    // One adapter tensor after the other, with what the error must say of it.
    public static TheoryData<string, string, string, long[], string> Misfits => new()
    {
        { """{"peft_type":"OFT"}""", "lin", "oft_r", [2, 2, 2], "before 0.16" },
        { """{"peft_type":"OFT"}""", "lin", "oft_R.weight", [1, 1], "does not fit" },
        { """{"peft_type":"OFT"}""", "lin", "oft_R.weight", [2, 2], "do not fit" },
        { """{"peft_type":"BEFT"}""", "lin", "beft_bias", [1, 2], "no bias" },
        { """{"peft_type":"IA3"}""", "lin", "ia3_l", [3, 1], "does not fit the outputs" },
        { """{"peft_type":"IA3"}""", "conv", "ia3_l", [1, 2, 1], "feedforward_modules" },
        { """{"peft_type":"HRA"}""", "lin", "hra_u", [5, 1], "does not fit" },
        { """{"peft_type":"HRA","r":2}""", "lin", "hra_u", [4, 1], "rank" },
        { """{"peft_type":"BOFT"}""", "lin", "boft_R", [1, 2, 2, 2], "has no boft_s" },
        { """{"peft_type":"GLORA"}""", "lin", "glora_A.Xd", [2, 1], "neither" },
        { """{"peft_type":"GLORA"}""", "lin", "glora_E.X", [2], "no bias" },
        { """{"peft_type":"FROD"}""", "lin", "frod_lambda_l", [4], "has no frod_lambda_s_values" },
        { """{"peft_type":"LN_TUNING"}""", "norm", "ln_tuning_layers.weight", [4], "the base has no norm.weight" },
    };

    [Theory]
    [MemberData(nameof(Kinds))]
    public void A_kind_that_no_weight_can_express_is_refused_by_name(string peftType, string reason)
    {
        var error = Refused(new Scenario(new() { ["lin.weight"] = Weight })
            .With(new() { ["peft_type"] = peftType }, new() { ["base_model.model.lin.x"] = Weight }));
        Assert.Equal(MergeError.UnsupportedAdapter, error.Error);
        Assert.Contains(peftType, error.Message, StringComparison.Ordinal);
        Assert.Contains(reason, Assert.Single(error.Details), StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Misfits))]
    public void A_tensor_that_does_not_fit_is_reported_with_the_reason(string config, string module, string part, long[] shape,
        string reason)
    {
        var name = $"base_model.model.{module}.{part}";
        var error = Refused(new Scenario(new() { ["lin.weight"] = Weight, ["conv.weight"] = new([2, 2, 3], new double[12]) })
            .With(JsonNode.Parse(config)!.AsObject(), new() { [name] = Values.Random(new Random(1), 1, shape) }));
        Assert.Equal(MergeError.AdapterDoesNotFit, error.Error);
        var detail = Assert.Single(error.Details);
        Assert.StartsWith(name, detail, StringComparison.Ordinal);
        Assert.Contains(reason, detail, StringComparison.Ordinal);
    }

    [Fact]
    public void Only_sums_and_changes_of_one_kind_are_combined()
    {
        var ia3 = new Dictionary<string, Values> { ["base_model.model.lin.ia3_l"] = new([2, 1], [1, 2]) };
        var hra = new Dictionary<string, Values> { ["base_model.model.lin.hra_u"] = new([4, 1], [1, 2, 3, 4]) };
        var osf = new Dictionary<string, Values>
        {
            ["base_model.model.lin.osf_svd_params.U_low"] = new([2, 1], [1, 1]),
            ["base_model.model.lin.osf_svd_params.S_low"] = new([1], [1]),
            ["base_model.model.lin.osf_svd_params.V_low"] = new([1, 4], [1, 1, 1, 1]),
        };
        var mixed = Refused(Scenario().With(new() { ["peft_type"] = "IA3" }, ia3).With(new() { ["peft_type"] = "HRA" }, hra));
        Assert.Contains("act one after the other", Assert.Single(mixed.Details), StringComparison.Ordinal);
        var twice = Refused(Scenario().With(new() { ["peft_type"] = "OSF" }, osf).With(new() { ["peft_type"] = "OSF" }, osf));
        Assert.All(twice.Details, d => Assert.Contains("act one after the other", d, StringComparison.Ordinal));
        var weighted = Refused(Scenario().With(new() { ["peft_type"] = "IA3" }, ia3, 0.5));
        Assert.Contains("must be 1", Assert.Single(weighted.Details), StringComparison.Ordinal);

        static Scenario Scenario() => new(new() { ["lin.weight"] = Weight });
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void Hra_vectors_without_a_direction_are_refused(double same)
    {
        var vectors = new Values([4, 2], [.. Enumerable.Range(0, 8).Select(i => i % 2 == 0 ? i + 1 : same * i * 3)]);
        var error = Refused(new Scenario(new() { ["lin.weight"] = Weight })
            .With(new() { ["peft_type"] = "HRA", ["apply_GS"] = true }, new() { ["base_model.model.lin.hra_u"] = vectors }));
        Assert.Contains(same == 0 ? "is zero" : "depends on", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Frod_without_its_projections_is_refused()
    {
        var error = Refused(new Scenario(new() { ["lin.weight"] = Weight })
            .With(new() { ["peft_type"] = "FROD", ["save_projection"] = false },
                new() { ["base_model.model.lin.frod_lambda_l"] = new([4], new double[4]) }));
        Assert.Contains("save_projection", error.Message, StringComparison.Ordinal);
    }

    private static MergeException Refused(Scenario scenario) => Assert.Throws<MergeException>(scenario.Merge);
}
