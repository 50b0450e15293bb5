namespace UnslothMerge.Tests.Adapters.Scenarios;

/// <summary>IA3, RoAd, GLoRA and LN tuning: element-wise changes and their biases, against the reference formulas of
/// Test-MergedModel.</summary>
public sealed class ScalingKindsTests
{
    private const string Ia3 = """{"peft_type": "IA3"}""";
    private const string Glora = """{"peft_type": "GLORA"}""";

    private readonly Random _random = new(5);

    // Three groups of two outputs; group g sees the input channels 2g and 2g + 1.
    [Theory]
    [InlineData("[]")]
    [InlineData("[\"conv\"]")]
    public void Ia3_scales_the_channels_that_each_group_of_a_convolution_sees(string feedForward) =>
        new TinyModel(("net.conv.weight", _random.Numbers(6, 2, 3, 3)), ("net.conv.bias", _random.Numbers(6)))
            .With($$"""{"peft_type": "IA3", "feedforward_modules": {{feedForward}}}""", ("net.conv.ia3_l", _random.Scaled(2, 1, 6, 1, 1)))
            .Verify();

    [Theory]
    [InlineData("(.*\\\\.)?lin", true)]
    [InlineData("lin", false)]
    public void Ia3_takes_a_text_as_an_expression_for_whole_names(string pattern, bool feedForward)
    {
        var (weight, bias) = (_random.Numbers(1, 1), _random.Numbers(1));
        var merged = new TinyModel(("net.lin.weight", weight), ("net.lin.bias", bias)).With(
            $$"""{"peft_type": "IA3", "feedforward_modules": "{{pattern}}"}""", ("net.lin.ia3_l", new Numbers([1, 1], [3]))).Merge();
        Numbers.Near([weight[0] * 3], merged["net.lin.weight"]);
        Numbers.Near([bias[0] * (feedForward ? 1 : 3)], merged["net.lin.bias"]);
    }

    [Fact]
    public void Ia3_scales_both_ways_round_and_small_factors_keep_their_precision()
    {
        var (inputs, outputs) = (_random.Scaled(1e-4, 1, 700), _random.Scaled(1e-4, 40, 1));
        new TinyModel(("a.weight", _random.Numbers(40, 700)), ("b.weight", _random.Numbers(700, 40)), ("b.bias", _random.Numbers(40)))
            .With(Ia3, ("a.ia3_l", inputs), ("b.ia3_l", inputs)).With(Ia3, ("a.ia3_l", outputs), ("b.ia3_l", outputs)).Verify();
    }

    [Theory]
    [InlineData("road_1", 2)]
    [InlineData("road_1", 64)]
    [InlineData("road_2", 6)]
    [InlineData("road_2", 192)]
    [InlineData("road_4", 4)]
    [InlineData("road_4", 96)]
    public void Road_rotates_the_halves_of_each_group(string variant, int group)
    {
        const int outputs = 384;
        var count = variant switch { "road_1" => outputs / 2, "road_2" => outputs, _ => 2 * outputs };
        var model = new TinyModel(("lin.weight", _random.Numbers(outputs, 300)), ("lin.bias", _random.Numbers(outputs)));
        for (var adapter = 0; adapter < 2; adapter++)
        {
            model.With($$"""{"peft_type": "ROAD", "variant": "{{variant}}", "group_size": {{group}}}""",
                ("lin.road_theta", _random.Scaled(3, count)), ("lin.road_alpha", _random.Scaled(2, count)));
        }

        model.Verify();
    }

    [Fact]
    public void Glora_takes_products_vectors_and_numbers_and_adds_weighted_adapters()
    {
        const int outputs = 300, inputs = 500;
        var (down, up) = (_random.Numbers(outputs, 3), _random.Numbers(3, inputs));
        new TinyModel(("lin.weight", _random.Numbers(outputs, inputs)), ("lin.bias", _random.Numbers(outputs)))
            .With(Glora, ("lin.glora_A.Xd", down), ("lin.glora_A.Xu", up), ("lin.glora_B.X", _random.Numbers(outputs, 1)),
                ("lin.glora_C.X", _random.Numbers(inputs, 1)), ("lin.glora_D.X", _random.Numbers(outputs)),
                ("lin.glora_E.X", _random.Numbers(1, 1)))
            .With(Glora, 0.5, ("lin.glora_B.Xd", down), ("lin.glora_B.Xu", up), ("lin.glora_C.Xd", _random.Numbers(inputs, 3)),
                ("lin.glora_C.Xu", _random.Numbers(3, 1)))
            .Verify();
    }

    [Theory]
    [InlineData("ln_tuning_layers.")]
    [InlineData("ln_tuning_layers.default.")]
    public void Ln_tuning_replaces_every_parameter_of_the_tuned_copy(string infix)
    {
        var (weight, inner) = (_random.Numbers(8), _random.Numbers(8, 4));
        var merged = new TinyModel(("norm.weight", Numbers.Zeros(8)), ("mlp.up.weight", Numbers.Zeros(8, 4)))
            .With("""{"peft_type": "LN_TUNING"}""", ($"norm.{infix}weight", weight), ($"mlp.{infix}up.weight", inner)).Merge();
        Numbers.Near(weight.Values, merged["norm.weight"]);
        Numbers.Near(inner.Values, merged["mlp.up.weight"]);
    }
}
