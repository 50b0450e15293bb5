namespace UnslothMerge.Tests.Planning;

/// <summary>Every form of an expert adapter over every form of an expert checkpoint gives the same model.</summary>
public sealed class ExpertMergeTests
{
    // No multiples of a panel, a tile or each other, and more columns than a tile has.
    private const int E = 5;
    private const int I = 41;
    private const int H = 300;
    private const int R = 3;
    private const double Alpha = 7;
    private const string Experts = "model.layers.0.mlp.experts";

    public enum Stored
    {
        GateUp,
        W1W3,
        UnslothSplit,
        Fused,
        FusedTransposed,
    }

    public enum Trained
    {
        Fused,
        FusedCrossed,
        FusedGrouped,
        GateUp,
        W1W3,
        UnslothSplit,
    }

    public static MatrixTheoryData<Stored, Trained> Forms => new(Enum.GetValues<Stored>(), Enum.GetValues<Trained>());

    [Theory, MemberData(nameof(Forms))]
    public void Every_adapter_merges_into_every_checkpoint(Stored stored, Trained trained)
    {
        // Each expert of one has no part of its own in the other: that must be said, not guessed.
        var fits = trained is Trained.Fused or Trained.FusedCrossed or Trained.FusedGrouped
            || stored is Stored.Fused or Stored.FusedTransposed
            || stored.ToString() == trained.ToString();
        var model = new TinyModel(Config("qwen3_moe"), Base(stored, Weight)).With(AdapterConfig(trained), Adapter(trained));
        if (fits)
        {
            Compare(model, Base(stored, Truth));
        }
        else
        {
            model.Refused("experts");
        }
    }

    [Fact]
    public void A_weight_and_a_strength_scale_every_expert() => Compare(
        new TinyModel(Config("qwen3_moe"), Base(Stored.Fused, Weight))
            .With(AdapterConfig(Trained.FusedGrouped), -0.5, Adapter(Trained.FusedGrouped)),
        Base(Stored.Fused, (p, e, o, i) => Weight(p, e, o, i) - (0.5 * (Truth(p, e, o, i) - Weight(p, e, o, i)))));

    [Theory]
    [InlineData("qwen3_moe", null, null)]
    [InlineData("qwen3_moe", "0.17.1", false)]
    [InlineData("qwen3_moe", "0.18.2.dev0", false)]
    [InlineData("qwen3_moe", "0.19.0", false)]
    [InlineData("qwen3_moe", "0.19.1", true)]
    [InlineData("qwen3_moe", "0.21.2@0123abc", true)]
    [InlineData("gpt_oss", null, false)]
    [InlineData("gpt_oss", "0.18.0", false)]
    [InlineData("gpt_oss", "0.19.0", true)]
    [InlineData("gpt_oss", "0.20", false)]
    public void The_release_tells_the_orientation_of_a_square_parameter(string modelType, string? version, bool? last)
    {
        var model = Square(modelType, version);
        if (last is { } inLast)
        {
            Compare(model, Of("down_proj", [2, 4, 4],
                i => inLast ? ((i[1] * 10) + i[0]) * (i[0] + i[2] + 1) : ((i[2] * 10) + i[0]) * (i[0] + i[1] + 1)));
        }
        else
        {
            model.Refused("-MoeOrientation");
        }
    }

    // Square down_proj alone: gate_up_proj beside it shows how the checkpoint keeps both, the release how A lies at run time.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_neighbour_tells_how_a_square_parameter_is_stored(bool transposed)
    {
        var neighbour = Of("gate_up_proj", transposed ? [2, 4, 8] : [2, 8, 4], _ => 0);
        Compare(Square("qwen3_vl_moe", "0.21.2", neighbour), neighbour, Of("down_proj", [2, 4, 4],
            i => (((transposed ? i[2] : i[1]) * 10) + i[0]) * (i[0] + (transposed ? i[1] : i[2]) + 1)));
    }

    [Fact]
    public void A_projection_lands_in_its_third_of_a_fused_matrix()
    {
        TinyTensor Wqkv(Func<int[], double> value) => ("encoder.layers.0.attn.Wqkv.weight", Numbers.Of([3 * I, H], value));
        Compare(
            new TinyModel(Config("nomic_bert"), Wqkv(i => Weight(0, 0, i[0], i[1]))).With(Lora(R, Alpha),
                TinyTensor.Lora("layers.0.self_attn.k_proj", Numbers.Of([R, H], i => FactorA(0, 0, i[0], i[1])),
                    Numbers.Of([I, R], i => FactorB(0, 0, I + i[0], i[1])))),
            Wqkv(i => i[0] / I == 1 ? Truth(0, 0, i[0], i[1]) : Weight(0, 0, i[0], i[1])));
    }

    [Fact]
    public void An_expert_beyond_the_fused_ones_is_a_problem() => new TinyModel(Config("qwen3_moe"), Base(Stored.Fused, Weight))
        .With(Lora(R, Alpha), TinyTensor.Lora($"{Experts}.{E}.down_proj", Numbers.Zeros(R, I), Numbers.Zeros(H, R)))
        .Refused($"there is no {Experts}.{E}.down_proj");

    // Two experts with a square down_proj of zeros, and factors that show in each product from where they came.
    private static TinyModel Square(string modelType, string? version, params TinyTensor[] neighbours) =>
        new TinyModel(Config(modelType), [.. neighbours, Of("down_proj", [2, 4, 4], _ => 0)]).With(
            Lora(1, 1, ["down_proj"], version), TinyTensor.Lora(Experts, Numbers.Of([2, 4], i => i[0] + i[1] + 1),
                Numbers.Of([4, 2], i => (i[0] * 10) + i[1])));

    private static TinyTensor Of(string parameter, long[] shape, Func<int[], double> value) =>
        ($"{Experts}.{parameter}", Numbers.Of(shape, value));

    private static void Compare(TinyModel model, params TinyTensor[] expected)
    {
        var merged = model.Merge();
        Assert.Equal(expected.Select(t => t.Name).Order(StringComparer.Ordinal), merged.Keys.Order(StringComparer.Ordinal));
        Assert.All(expected, t => Numbers.Near(PassRule.Decode(TensorType.F32, t.Bytes), merged[t.Name]));
    }

    // Smooth and different everywhere, so that a value in a wrong place shows.
    private static double Noise(int a, int b, int c, int d) => Math.Sin((a * 37.1) + (b * 11.3) + (c * 1.7) + (d * 0.31) + 0.5);

    // Projection 0 is gate_up [2I, H], projection 1 down [H, I].
    private static double Weight(int projection, int e, int o, int i) => (float)Noise(projection, e, o, i);

    private static double FactorA(int projection, int e, int k, int i) => (float)Noise(projection + 2, e, k * 13, i);

    private static double FactorB(int projection, int e, int o, int k) => (float)Noise(projection + 4, e, o, k * 7);

    private static double Truth(int projection, int e, int o, int i) =>
        Weight(projection, e, o, i) +
            (Alpha / R * Enumerable.Range(0, R).Sum(k => FactorB(projection, e, o, k) * FactorA(projection, e, k, i)));

    private static TinyTensor[] Base(Stored stored, Func<int, int, int, int, double> value) => stored switch
    {
        Stored.Fused => [Of("gate_up_proj", [E, 2 * I, H], i => value(0, i[0], i[1], i[2])),
            Of("down_proj", [E, H, I], i => value(1, i[0], i[1], i[2]))],
        Stored.FusedTransposed => [Of("gate_up_proj", [E, H, 2 * I], i => value(0, i[0], i[2], i[1])),
            Of("down_proj", [E, I, H], i => value(1, i[0], i[2], i[1]))],
        _ => [.. Modules(stored.ToString()).Select(m => (TinyTensor)(m.Name + ".weight",
            Numbers.Of([m.Rows, m.Projection == 0 ? H : I], i => value(m.Projection, m.Expert, m.First + i[0], i[1]))))],
    };

    private static TinyTensor[] Adapter(Trained trained)
    {
        if (trained is Trained.GateUp or Trained.W1W3 or Trained.UnslothSplit)
        {
            return [.. Modules(trained.ToString()).SelectMany(m => TinyTensor.Lora(m.Name,
                Numbers.Of([R, m.Projection == 0 ? H : I], i => FactorA(m.Projection, m.Expert, i[0], i[1])),
                Numbers.Of([m.Rows, R], i => FactorB(m.Projection, m.Expert, m.First + i[0], i[1]))))];
        }

        // A holds the ranks of one expert after the other; B the same, or all experts of one rank after the other.
        var grouped = trained == Trained.FusedGrouped;
        return [.. new[] { 0, 1 }.SelectMany(projection =>
        {
            var (outputs, inputs) = projection == 0 ? (2 * I, H) : (H, I);
            int Expert(int column) => grouped ? column / R : column % E;
            int Rank(int column) => grouped ? column % R : column / E;
            return TinyTensor.Lora(Experts + (projection == 0 ? ".base_layer" : ""),
                Numbers.Of([E * R, trained == Trained.FusedCrossed ? outputs : inputs], i => trained == Trained.FusedCrossed
                    ? FactorB(projection, i[0] / R, i[1], i[0] % R) : FactorA(projection, i[0] / R, i[0] % R, i[1])),
                Numbers.Of([trained == Trained.FusedCrossed ? inputs : outputs, R * E], i => trained == Trained.FusedCrossed
                    ? FactorA(projection, Expert(i[1]), Rank(i[1]), i[0]) : FactorB(projection, Expert(i[1]), i[0], Rank(i[1]))));
        })];
    }

    private static IEnumerable<(string Name, int Expert, int Projection, int First, int Rows)> Modules(string naming) =>
        Enumerable.Range(0, E).SelectMany(e => naming switch
        {
            nameof(Stored.UnslothSplit) =>
                new[] { ($"{Experts}.gate_up_projs.{e}", e, 0, 0, 2 * I), ($"{Experts}.down_projs.{e}", e, 1, 0, H) },
            nameof(Stored.W1W3) =>
                [($"{Experts}.{e}.w1", e, 0, 0, I), ($"{Experts}.{e}.w3", e, 0, I, I), ($"{Experts}.{e}.w2", e, 1, 0, H)],
            _ => [($"{Experts}.{e}.gate_proj", e, 0, 0, I), ($"{Experts}.{e}.up_proj", e, 0, I, I),
                ($"{Experts}.{e}.down_proj", e, 1, 0, H)],
        });

    private static string Config(string modelType) => $$"""{"model_type": "{{modelType}}", "dtype": "float32"}""";

    private static string AdapterConfig(Trained trained) => trained is Trained.GateUp or Trained.W1W3 or Trained.UnslothSplit
        ? Lora(R, Alpha) : Lora(R, Alpha, ["gate_up_proj", "down_proj"], layout: trained == Trained.FusedGrouped ? "grouped" : null);

    private static string Lora(int rank, double alpha, string[]? parameters = null, string? version = null, string? layout = null)
    {
        var targets = new JsonArray([.. (parameters ?? []).Select(p => JsonValue.Create("mlp.experts." + p))]);
        var config = new JsonObject { ["r"] = rank, ["lora_alpha"] = alpha, ["target_parameters"] = targets, ["peft_version"] = version };
        if (layout is not null)
        {
            config["lora_B_layout"] = layout;
        }

        return config.ToJsonString();
    }
}
