namespace UnslothMerge.Tests.Adapters.Scenarios;

/// <summary>What cannot be merged is refused by name, with the reason.</summary>
public sealed class KindRefusalTests
{
    private static readonly TinyTensor Weight = ("lin.weight", Numbers.Zeros(2, 4));

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

    [Theory, MemberData(nameof(Kinds))]
    public void A_kind_that_no_weight_can_express_is_refused_by_name(string peftType, string reason)
    {
        var error = new TinyModel(Weight).With($$"""{"peft_type": "{{peftType}}"}""", ("lin.x", Numbers.Zeros(2, 4))).Refused(peftType);
        Assert.Equal(MergeError.UnsupportedAdapter, error.Error);
        Assert.Contains(reason, Assert.Single(error.Details), StringComparison.Ordinal);
    }

    [Theory, MemberData(nameof(Misfits))]
    public void A_tensor_that_does_not_fit_is_reported_with_the_reason(string config, string module, string part, long[] shape,
        string reason)
    {
        var error = new TinyModel(Weight, ("conv.weight", Numbers.Zeros(2, 2, 3)))
            .With(config, ($"{module}.{part}", new Random(1).Numbers(shape))).Refused();
        Assert.Equal(MergeError.AdapterDoesNotFit, error.Error);
        var detail = Assert.Single(error.Details);
        Assert.StartsWith($"base_model.model.{module}.{part}", detail, StringComparison.Ordinal);
        Assert.Contains(reason, detail, StringComparison.Ordinal);
    }

    [Fact]
    public void Only_sums_and_changes_of_one_kind_are_combined()
    {
        const string Ia3 = """{"peft_type": "IA3"}""", Osf = """{"peft_type": "OSF"}""";
        TinyTensor ia3 = ("lin.ia3_l", new Numbers([2, 1], [1, 2]));
        TinyTensor[] osf = [("lin.osf_svd_params.U_low", new Numbers([2, 1], [1, 1])), ("lin.osf_svd_params.S_low", new Numbers([1], [1])),
            ("lin.osf_svd_params.V_low", new Numbers([1, 4], [1, 1, 1, 1]))];
        AllSay("act one after the other", new TinyModel(Weight).With(Ia3, ia3)
            .With("""{"peft_type": "HRA"}""", ("lin.hra_u", new Numbers([4, 1], [1, 2, 3, 4]))));
        AllSay("act one after the other", new TinyModel(Weight).With(Osf, osf).With(Osf, osf));
        AllSay("must be 1", new TinyModel(Weight).With(Ia3, 0.5, ia3));

        static void AllSay(string reason, TinyModel model)
        {
            var details = model.Refused().Details;
            Assert.NotEmpty(details);
            Assert.All(details, d => Assert.Contains(reason, d, StringComparison.Ordinal));
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void Hra_vectors_without_a_direction_are_refused(double same) => new TinyModel(Weight)
        .With("""{"peft_type": "HRA", "apply_GS": true}""", ("lin.hra_u", Numbers.Of([4, 2], i => i % 2 == 0 ? i + 1 : same * i * 3)))
        .Refused(same == 0 ? "is zero" : "depends on");

    [Fact]
    public void Peanut_of_a_depth_below_zero_is_refused() => new TinyModel(Weight)
        .With("""{"peft_type": "PEANUT", "depth": -2}""", ("lin.peanut_A.weight", Numbers.Zeros(1, 2)),
            ("lin.peanut_B.weight", Numbers.Zeros(2, 1))).Refused("its depth is -2");

    /// <summary>As where outputs and inputs are stored the other way round; but the adapter tells which are which.</summary>
    [Fact]
    public void A_bias_as_long_as_the_inputs_turns_no_weight() =>
        new TinyModel(("lin.weight", Numbers.Of([2, 4], (int i) => i * i)), ("lin.bias", Numbers.Zeros(4)))
            .With("""{"peft_type": "OSF"}""", ("lin.osf_svd_params.U_low", new Numbers([2, 1], [1, 1])),
                ("lin.osf_svd_params.S_low", new Numbers([1], [1])), ("lin.osf_svd_params.V_low", new Numbers([1, 4], [1, 1, 1, 1])))
            .Verify();

    [Fact]
    public void Frod_without_its_projections_is_refused() => new TinyModel(Weight)
        .With("""{"peft_type": "FROD", "save_projection": false}""", ("lin.frod_lambda_l", Numbers.Zeros(4))).Refused("save_projection");
}
