namespace UnslothMerge.Tests.Adapters.Scenarios;

/// <summary>IA3, RoAd, BEFT, GLoRA and LN tuning: element-wise changes and their biases.</summary>
public sealed class ScalingKindsTests
{
    private readonly Random _random = new(5);

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Ia3_scales_the_channels_that_each_group_of_a_convolution_sees(bool feedForward)
    {
        var (weight, bias) = (Values.Random(_random, 1, 6, 2, 3, 3), Values.Random(_random, 1, 6));
        var scale = Values.Random(_random, 2, 1, 6, 1, 1);
        var config = new JsonObject { ["peft_type"] = "IA3", ["feedforward_modules"] = feedForward ? new JsonArray("conv") : [] };
        var merged = new Scenario(new() { ["net.conv.weight"] = weight, ["net.conv.bias"] = bias })
            .With(config, new() { ["base_model.model.net.conv.ia3_l"] = scale }).Merge();

        // Three groups of two outputs; group g sees the input channels 2g and 2g + 1.
        Scenario.Equal([.. weight.Numbers.Select((w, i) => w * scale.Numbers[feedForward ? (i / 18 / 2 * 2) + (i % 18 / 9) : i / 18])],
            merged["net.conv.weight"]);
        Scenario.Equal([.. bias.Numbers.Select((b, i) => feedForward ? b : b * scale.Numbers[i])], merged["net.conv.bias"]);
    }

    [Theory]
    [InlineData("(.*\\.)?lin", true)]
    [InlineData("lin", false)]
    public void Ia3_takes_a_text_as_an_expression_for_whole_names(string pattern, bool feedForward)
    {
        var (weight, bias) = (Values.Random(_random, 1, 1, 1), Values.Random(_random, 1, 1));
        var config = new JsonObject { ["peft_type"] = "IA3", ["feedforward_modules"] = pattern };
        var merged = new Scenario(new() { ["net.lin.weight"] = weight, ["net.lin.bias"] = bias })
            .With(config, new() { ["base_model.model.net.lin.ia3_l"] = new([1, 1], [3]) }).Merge();
        Scenario.Equal([weight.Numbers[0] * 3], merged["net.lin.weight"]);
        Scenario.Equal([bias.Numbers[0] * (feedForward ? 1 : 3)], merged["net.lin.bias"]);
    }

    [Fact]
    public void Ia3_scales_both_ways_round_and_small_factors_keep_their_precision()
    {
        var (linear, conv1D, bias) = (Values.Random(_random, 1, 40, 700), Values.Random(_random, 1, 700, 40),
            Values.Random(_random, 1, 40));
        var (inputs, outputs) = (Values.Random(_random, 1e-4, 1, 700), Values.Random(_random, 1e-4, 40, 1));
        var merged = new Scenario(new() { ["a.weight"] = linear, ["b.weight"] = conv1D, ["b.bias"] = bias })
            .With(new() { ["peft_type"] = "IA3" }, new() { ["base_model.model.a.ia3_l"] = inputs, ["base_model.model.b.ia3_l"] = inputs })
            .With(new() { ["peft_type"] = "IA3" }, new() { ["base_model.model.a.ia3_l"] = outputs, ["base_model.model.b.ia3_l"] = outputs })
            .Merge();
        Scenario.Equal([.. linear.Numbers.Select((w, i) => w * inputs.Numbers[i % 700] * outputs.Numbers[i / 700])], merged["a.weight"]);
        Scenario.Equal([.. conv1D.Numbers.Select((w, i) => w * inputs.Numbers[i / 40] * outputs.Numbers[i % 40])], merged["b.weight"]);
        Scenario.Equal([.. bias.Numbers.Select((b, i) => b * outputs.Numbers[i])], merged["b.bias"]);
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
        var (weight, bias) = (Values.Random(_random, 1, outputs, 300), Values.Random(_random, 1, outputs));
        var count = variant switch { "road_1" => outputs / 2, "road_2" => outputs, _ => 2 * outputs };
        var adapters = Enumerable.Range(0, 2)
            .Select(_ => (Angles: Values.Random(_random, 3, count), Scales: Values.Random(_random, 2, count))).ToList();
        var scenario = new Scenario(new() { ["lin.weight"] = weight, ["lin.bias"] = bias });
        foreach (var (angles, scales) in adapters)
        {
            scenario.With(new() { ["peft_type"] = "ROAD", ["variant"] = variant, ["group_size"] = group },
                new() { ["base_model.model.lin.road_theta"] = angles, ["base_model.model.lin.road_alpha"] = scales });
        }

        var merged = scenario.Merge();
        var rotation = Dense.Times(Rotation(adapters[1]), Rotation(adapters[0]));
        Scenario.Equal(Dense.Flat(Dense.Times(rotation, Dense.Of(weight))), merged["lin.weight"]);
        Scenario.Equal(Dense.Flat(Dense.Times(rotation, Dense.Of(outputs, 1, (i, _) => bias.Numbers[i]))), merged["lin.bias"]);

        double[,] Rotation((Values Angles, Values Scales) adapter) => Dense.Of(outputs, outputs, (i, j) =>
        {
            var (start, half) = (i / group * group, group / 2);
            var (cosine, sine) = variant switch
            {
                "road_1" => ((start / 2) + ((i - start) % half), (start / 2) + ((i - start) % half)),
                "road_2" => (i, i),
                _ => ((2 * start) + (i - start), (2 * start) + group + (i - start)),
            };
            var partner = i - start < half ? i + half : i - half;
            return j == i ? adapter.Scales.Numbers[cosine] * Math.Cos(adapter.Angles.Numbers[cosine])
                : j == partner ? adapter.Scales.Numbers[sine] * Math.Sin(adapter.Angles.Numbers[sine]) * (partner > i ? -1 : 1)
                : 0;
        });
    }

    [Fact]
    public void Glora_takes_products_vectors_and_numbers_and_adds_weighted_adapters()
    {
        const int outputs = 300;
        const int inputs = 500;
        var (weight, bias) = (Values.Random(_random, 1, outputs, inputs), Values.Random(_random, 1, outputs));
        var (ad, au, b) = (Values.Random(_random, 1, outputs, 3), Values.Random(_random, 1, 3, inputs),
            Values.Random(_random, 1, outputs, 1));
        var (c, d, e) = (Values.Random(_random, 1, inputs, 1), Values.Random(_random, 1, outputs), Values.Random(_random, 1, 1));
        var (cd, cu) = (Values.Random(_random, 1, inputs, 3), Values.Random(_random, 1, 3, 1));
        var merged = new Scenario(new() { ["lin.weight"] = weight, ["lin.bias"] = bias })
            .With(
                new() { ["peft_type"] = "GLORA" },
                new() { [Name("A.Xd")] = ad, [Name("A.Xu")] = au, [Name("B.X")] = b, [Name("C.X")] = c, [Name("D.X")] = d,
                    [Name("E.X")] = e })
            .With(new() { ["peft_type"] = "GLORA" },
                new() { [Name("B.Xd")] = ad, [Name("B.Xu")] = au, [Name("C.Xd")] = cd, [Name("C.Xu")] = cu }, 0.5)
            .Merge();

        var product = Dense.Times(Dense.Of(ad), Dense.Of(au));
        Scenario.Equal(Dense.Flat(Dense.Of(outputs, inputs,
            (i, j) => weight[i, j] + (weight[i, j] * product[i, j]) + b.Numbers[i] + (0.5 * product[i, j]))), merged["lin.weight"]);
        var first = Dense.Times(Dense.Of(weight), Dense.Of(c));
        var second = Dense.Times(Dense.Of(weight), Dense.Of(cd), Dense.Of(cu));
        Scenario.Equal([.. bias.Numbers.Select((v, i) => v + (v * d.Numbers[i]) + e.Numbers[0] + first[i, 0] + (0.5 * second[i, 0]))],
            merged["lin.bias"]);

        static string Name(string part) => $"base_model.model.lin.glora_{part}";
    }

    [Theory]
    [InlineData("ln_tuning_layers.")]
    [InlineData("ln_tuning_layers.default.")]
    public void Ln_tuning_replaces_every_parameter_of_the_tuned_copy(string infix)
    {
        var (weight, inner) = (Values.Random(_random, 1, 8), Values.Random(_random, 1, 8, 4));
        var merged = new Scenario(new() { ["norm.weight"] = new([8], new double[8]), ["mlp.up.weight"] = new([8, 4], new double[32]) })
            .With(new() { ["peft_type"] = "LN_TUNING" },
                new() { [$"base_model.model.norm.{infix}weight"] = weight, [$"base_model.model.mlp.{infix}up.weight"] = inner })
            .Merge();
        Scenario.Equal(weight.Numbers, merged["norm.weight"]);
        Scenario.Equal(inner.Numbers, merged["mlp.up.weight"]);
    }
}
