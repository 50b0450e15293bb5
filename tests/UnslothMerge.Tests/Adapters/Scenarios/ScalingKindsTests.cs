using MathNet.Numerics.LinearAlgebra;

namespace UnslothMerge.Tests.Adapters.Scenarios;

/// <summary>IA3, RoAd, BEFT, GLoRA and LN tuning: element-wise changes and their biases.</summary>
public sealed class ScalingKindsTests
{
    private const string Ia3 = """{"peft_type": "IA3"}""";
    private const string Glora = """{"peft_type": "GLORA"}""";

    private readonly Random _random = new(5);

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Ia3_scales_the_channels_that_each_group_of_a_convolution_sees(bool feedForward)
    {
        var (weight, bias, scale) = (_random.Numbers(6, 2, 3, 3), _random.Numbers(6), _random.Scaled(2, 1, 6, 1, 1));
        var config = $$"""{"peft_type": "IA3", "feedforward_modules": {{(feedForward ? "[\"conv\"]" : "[]")}}}""";
        var merged = new TinyModel(("net.conv.weight", weight), ("net.conv.bias", bias)).With(config, ("net.conv.ia3_l", scale)).Merge();

        // Three groups of two outputs; group g sees the input channels 2g and 2g + 1.
        Numbers.Near([.. weight.Values.Select((w, i) => w * scale.Values[feedForward ? (i / 18 / 2 * 2) + (i % 18 / 9) : i / 18])],
            merged["net.conv.weight"]);
        Numbers.Near([.. bias.Values.Select((b, i) => feedForward ? b : b * scale.Values[i])], merged["net.conv.bias"]);
    }

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
        var (linear, conv1D, bias) = (_random.Numbers(40, 700), _random.Numbers(700, 40), _random.Numbers(40));
        var (inputs, outputs) = (_random.Scaled(1e-4, 1, 700), _random.Scaled(1e-4, 40, 1));
        var merged = new TinyModel(("a.weight", linear), ("b.weight", conv1D), ("b.bias", bias))
            .With(Ia3, ("a.ia3_l", inputs), ("b.ia3_l", inputs)).With(Ia3, ("a.ia3_l", outputs), ("b.ia3_l", outputs)).Merge();
        Numbers.Near([.. linear.Values.Select((w, i) => w * inputs.Values[i % 700] * outputs.Values[i / 700])], merged["a.weight"]);
        Numbers.Near([.. conv1D.Values.Select((w, i) => w * inputs.Values[i / 40] * outputs.Values[i % 40])], merged["b.weight"]);
        Numbers.Near([.. bias.Values.Select((b, i) => b * outputs.Values[i])], merged["b.bias"]);
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
        var (weight, bias) = (_random.Numbers(outputs, 300), _random.Numbers(outputs));
        var count = variant switch { "road_1" => outputs / 2, "road_2" => outputs, _ => 2 * outputs };
        (Numbers Angles, Numbers Scales)[] adapters =
            [(_random.Scaled(3, count), _random.Scaled(2, count)), (_random.Scaled(3, count), _random.Scaled(2, count))];
        var model = new TinyModel(("lin.weight", weight), ("lin.bias", bias));
        Array.ForEach(adapters, a => model.With($$"""{"peft_type": "ROAD", "variant": "{{variant}}", "group_size": {{group}}}""",
            ("lin.road_theta", a.Angles), ("lin.road_alpha", a.Scales)));
        var merged = model.Merge();
        var rotation = Rotation(adapters[1]) * Rotation(adapters[0]);
        Dense.Near(rotation * Dense.Of(weight), merged["lin.weight"]);
        Dense.Near(rotation * Dense.Of(bias), merged["lin.bias"]);

        Matrix<double> Rotation((Numbers Angles, Numbers Scales) adapter) => Dense.Of(outputs, outputs, (i, j) =>
        {
            var (start, half) = (i / group * group, group / 2);
            var (cosine, sine) = variant switch
            {
                "road_1" => ((start / 2) + ((i - start) % half), (start / 2) + ((i - start) % half)),
                "road_2" => (i, i),
                _ => ((2 * start) + (i - start), (2 * start) + group + (i - start)),
            };
            var partner = i - start < half ? i + half : i - half;
            return j == i ? adapter.Scales[cosine] * Math.Cos(adapter.Angles[cosine])
                : j == partner ? adapter.Scales[sine] * Math.Sin(adapter.Angles[sine]) * (partner > i ? -1 : 1)
                : 0;
        });
    }

    [Fact]
    public void Glora_takes_products_vectors_and_numbers_and_adds_weighted_adapters()
    {
        const int outputs = 300, inputs = 500;
        var (weight, bias) = (_random.Numbers(outputs, inputs), _random.Numbers(outputs));
        var (ad, au, b) = (_random.Numbers(outputs, 3), _random.Numbers(3, inputs), _random.Numbers(outputs, 1));
        var (c, d, e) = (_random.Numbers(inputs, 1), _random.Numbers(outputs), _random.Numbers(1, 1));
        var (cd, cu) = (_random.Numbers(inputs, 3), _random.Numbers(3, 1));
        var merged = new TinyModel(("lin.weight", weight), ("lin.bias", bias))
            .With(Glora, ("lin.glora_A.Xd", ad), ("lin.glora_A.Xu", au), ("lin.glora_B.X", b), ("lin.glora_C.X", c),
                ("lin.glora_D.X", d), ("lin.glora_E.X", e))
            .With(Glora, 0.5, ("lin.glora_B.Xd", ad), ("lin.glora_B.Xu", au), ("lin.glora_C.Xd", cd), ("lin.glora_C.Xu", cu)).Merge();

        var product = Dense.Of(ad) * Dense.Of(au);
        Dense.Near(Dense.Of(outputs, inputs,
            (i, j) => weight[i, j] + (weight[i, j] * product[i, j]) + b[i] + (0.5 * product[i, j])), merged["lin.weight"]);
        var added = Dense.Of(weight) * (Dense.Of(c) + (0.5 * Dense.Of(cd) * Dense.Of(cu)));
        Numbers.Near([.. bias.Values.Select((v, i) => v + (v * d[i]) + e[0] + added[i, 0])], merged["lin.bias"]);
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
