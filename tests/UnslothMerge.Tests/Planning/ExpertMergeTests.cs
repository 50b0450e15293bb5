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

    [Theory]
    [MemberData(nameof(Forms))]
    public void Every_adapter_merges_into_every_checkpoint(Stored stored, Trained trained)
    {
        // Each expert of one has no part of its own in the other: that must be said, not guessed.
        var fits = trained is Trained.Fused or Trained.FusedCrossed or Trained.FusedGrouped
            || stored is Stored.Fused or Stored.FusedTransposed
            || stored.ToString() == trained.ToString();
        using var directory = new TemporaryDirectory();
        var @base = Base(stored).WriteModel(directory["base"], new JsonObject { ["model_type"] = "qwen3_moe", ["dtype"] = "float32" });
        var adapter = Adapter(trained, out var config).WriteAdapter(directory["adapter"], config);
        if (!fits)
        {
            Assert.Contains("experts", Assert.Throws<MergeException>(() => Merge(@base, adapter, directory["out"])).Message,
                StringComparison.Ordinal);
            return;
        }

        Merge(@base, adapter, directory["out"]);
        Compare(directory["out"], Base(stored, Truth));
    }

    [Fact]
    public void A_weight_and_a_strength_scale_every_expert()
    {
        using var directory = new TemporaryDirectory();
        var @base = Base(Stored.Fused)
            .WriteModel(directory["base"], new JsonObject { ["model_type"] = "qwen3_moe", ["dtype"] = "float32" });
        var adapter = Adapter(Trained.FusedGrouped, out var config).WriteAdapter(directory["adapter"], config);
        Merge(@base, adapter, directory["out"], weight: -0.5);
        Compare(directory["out"],
            Base(Stored.Fused, (p, e, o, i) => Weight(p, e, o, i) - (0.5 * (Truth(p, e, o, i) - Weight(p, e, o, i)))));
    }

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
        using var directory = new TemporaryDirectory();
        var model = new TinyTensors();
        model.Add($"{Experts}.down_proj", [2, 4, 4], _ => 0);
        var adapter = new TinyTensors();
        adapter.Add($"base_model.model.{Experts}.lora_A.weight", [2, 4], i => i[0] + i[1] + 1);
        adapter.Add($"base_model.model.{Experts}.lora_B.weight", [4, 2], i => (i[0] * 10) + i[1]);
        var config = Config(1, 1, "down_proj");
        config["peft_version"] = version;
        var (@base, files) = (model.WriteModel(directory["base"], new JsonObject { ["model_type"] = modelType, ["dtype"] = "float32" }),
            adapter.WriteAdapter(directory["adapter"], config));
        if (last is null)
        {
            Assert.Contains("-MoeOrientation", Assert.Throws<MergeException>(() => Merge(@base, files, directory["out"])).Message,
                StringComparison.Ordinal);
            return;
        }

        Merge(@base, files, directory["out"]);
        var expected = new TinyTensors();
        expected.Add($"{Experts}.down_proj", [2, 4, 4],
            i => last.Value ? ((i[1] * 10) + i[0]) * (i[0] + i[2] + 1) : ((i[2] * 10) + i[0]) * (i[0] + i[1] + 1));
        Compare(directory["out"], expected);
    }

    // Square down_proj alone: gate_up_proj beside it shows how the checkpoint keeps both, the release how A lies at run time.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_neighbour_tells_how_a_square_parameter_is_stored(bool transposed)
    {
        using var directory = new TemporaryDirectory();
        var model = new TinyTensors();
        model.Add($"{Experts}.gate_up_proj", transposed ? [2, 4, 8] : [2, 8, 4], _ => 0);
        model.Add($"{Experts}.down_proj", [2, 4, 4], _ => 0);
        var adapter = new TinyTensors();
        adapter.Add($"base_model.model.{Experts}.lora_A.weight", [2, 4], i => i[0] + i[1] + 1);
        adapter.Add($"base_model.model.{Experts}.lora_B.weight", [4, 2], i => (i[0] * 10) + i[1]);
        var config = Config(1, 1, "down_proj");
        config["peft_version"] = "0.21.2";
        Merge(model.WriteModel(directory["base"], new JsonObject { ["model_type"] = "qwen3_vl_moe", ["dtype"] = "float32" }),
            adapter.WriteAdapter(directory["adapter"], config), directory["out"]);

        var expected = new TinyTensors();
        expected.Add($"{Experts}.gate_up_proj", transposed ? [2, 4, 8] : [2, 8, 4], _ => 0);
        expected.Add($"{Experts}.down_proj", [2, 4, 4],
            i => (((transposed ? i[2] : i[1]) * 10) + i[0]) * (i[0] + (transposed ? i[1] : i[2]) + 1));
        Compare(directory["out"], expected);
    }

    [Fact]
    public void A_projection_lands_in_its_third_of_a_fused_matrix()
    {
        using var directory = new TemporaryDirectory();
        var model = new TinyTensors();
        model.Add("encoder.layers.0.attn.Wqkv.weight", [3 * I, H], i => Weight(0, 0, i[0], i[1]));
        var adapter = new TinyTensors();
        adapter.Add("base_model.model.layers.0.self_attn.k_proj.lora_A.weight", [R, H], i => FactorA(0, 0, i[0], i[1]));
        adapter.Add("base_model.model.layers.0.self_attn.k_proj.lora_B.weight", [I, R], i => FactorB(0, 0, I + i[0], i[1]));
        Merge(model.WriteModel(directory["base"], new JsonObject { ["model_type"] = "nomic_bert", ["dtype"] = "float32" }),
            adapter.WriteAdapter(directory["adapter"], Config(R, Alpha)), directory["out"]);

        var expected = new TinyTensors();
        expected.Add("encoder.layers.0.attn.Wqkv.weight", [3 * I, H],
            i => i[0] / I == 1 ? Truth(0, 0, i[0], i[1]) : Weight(0, 0, i[0], i[1]));
        Compare(directory["out"], expected);
    }

    [Fact]
    public void An_expert_beyond_the_fused_ones_is_a_problem()
    {
        using var directory = new TemporaryDirectory();
        var @base = Base(Stored.Fused).WriteModel(directory["base"], new JsonObject { ["model_type"] = "qwen3_moe" });
        var adapter = new TinyTensors();
        adapter.Add($"base_model.model.{Experts}.{E}.down_proj.lora_A.weight", [R, I], _ => 1);
        adapter.Add($"base_model.model.{Experts}.{E}.down_proj.lora_B.weight", [H, R], _ => 1);
        var error = Assert.Throws<MergeException>(() =>
            Merge(@base, adapter.WriteAdapter(directory["adapter"], Config(R, Alpha)), directory["out"]));
        Assert.Contains($"there is no {Experts}.{E}.down_proj", error.Message, StringComparison.Ordinal);
    }

    private static void Merge(string @base, string adapter, string output, double weight = 1)
    {
        var plan = MergePlanner.Plan(ModelDirectory.Open(@base), [new AdapterStep(AdapterDirectory.Open(adapter), weight)]);
        var write = WritePlan.Create(plan, plan.Tensors, new WriteOptions(TensorType.F32, 5_000_000_000));
        ModelSaver.Save(Destination.Check(output, [("base", @base)], force: false), "merged_16bit", Runs.Of(write), null,
            TestContext.Current.CancellationToken);
    }

    private static void Compare(string output, TinyTensors expected)
    {
        using var files = new InputFiles();
        var actual = Checkpoint.Open(output);
        Assert.Equal(expected.Keys.Order(StringComparer.Ordinal), actual.Tensors.Select(t => t.Name).Order(StringComparer.Ordinal));
        foreach (var (name, (shape, values)) in expected)
        {
            Assert.Equal(shape, actual.Find(name)!.Shape);
            PassRule.Check(name, TensorType.F32, files.ReadAll(actual.Find(name)!),
                System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>(values).ToArray());
        }
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

    private static TinyTensors Base(Stored stored, Func<int, int, int, int, double>? value = null)
    {
        value ??= Weight;
        var model = new TinyTensors();
        if (stored == Stored.Fused)
        {
            model.Add($"{Experts}.gate_up_proj", [E, 2 * I, H], i => value(0, i[0], i[1], i[2]));
            model.Add($"{Experts}.down_proj", [E, H, I], i => value(1, i[0], i[1], i[2]));
            return model;
        }

        if (stored == Stored.FusedTransposed)
        {
            model.Add($"{Experts}.gate_up_proj", [E, H, 2 * I], i => value(0, i[0], i[2], i[1]));
            model.Add($"{Experts}.down_proj", [E, I, H], i => value(1, i[0], i[2], i[1]));
            return model;
        }

        for (var n = 0; n < E; n++)
        {
            var e = n;
            foreach (var (module, projection, first, rows) in Modules(stored.ToString(), e))
            {
                model.Add(module + ".weight", [rows, projection == 0 ? H : I], i => value(projection, e, first + i[0], i[1]));
            }
        }

        return model;
    }

    private static TinyTensors Adapter(Trained trained, out JsonObject config)
    {
        var adapter = new TinyTensors();
        config = Config(R, Alpha);
        if (trained is Trained.GateUp or Trained.W1W3 or Trained.UnslothSplit)
        {
            for (var n = 0; n < E; n++)
            {
                var e = n;
                foreach (var (module, projection, first, rows) in Modules(trained.ToString(), e))
                {
                    adapter.Add($"base_model.model.{module}.lora_A.weight", [R, projection == 0 ? H : I],
                        i => FactorA(projection, e, i[0], i[1]));
                    adapter.Add($"base_model.model.{module}.lora_B.weight", [rows, R], i => FactorB(projection, e, first + i[0], i[1]));
                }
            }

            return adapter;
        }

        config = Config(R, Alpha, "gate_up_proj", "down_proj");
        if (trained == Trained.FusedGrouped)
        {
            config["lora_B_layout"] = "grouped";
        }

        foreach (var projection in new[] { 0, 1 })
        {
            var name = $"base_model.model.{Experts}{(projection == 0 ? ".base_layer" : "")}";
            var (outputs, inputs) = projection == 0 ? (2 * I, H) : (H, I);
            var (expert, rank) = trained == Trained.FusedGrouped
                ? ((Func<int, int>)(c => c / R), (Func<int, int>)(c => c % R)) : (c => c % E, c => c / E);
            if (trained == Trained.FusedCrossed)
            {
                adapter.Add($"{name}.lora_A.weight", [E * R, outputs], i => FactorB(projection, i[0] / R, i[1], i[0] % R));
                adapter.Add($"{name}.lora_B.weight", [inputs, R * E], i => FactorA(projection, expert(i[1]), rank(i[1]), i[0]));
            }
            else
            {
                adapter.Add($"{name}.lora_A.weight", [E * R, inputs], i => FactorA(projection, i[0] / R, i[0] % R, i[1]));
                adapter.Add($"{name}.lora_B.weight", [outputs, R * E], i => FactorB(projection, expert(i[1]), i[0], rank(i[1])));
            }
        }

        return adapter;
    }

    private static IEnumerable<(string Module, int Projection, int First, int Rows)> Modules(string naming, int e) => naming switch
    {
        nameof(Stored.UnslothSplit) => [($"{Experts}.gate_up_projs.{e}", 0, 0, 2 * I), ($"{Experts}.down_projs.{e}", 1, 0, H)],
        nameof(Stored.W1W3) => [($"{Experts}.{e}.w1", 0, 0, I), ($"{Experts}.{e}.w3", 0, I, I), ($"{Experts}.{e}.w2", 1, 0, H)],
        _ => [($"{Experts}.{e}.gate_proj", 0, 0, I), ($"{Experts}.{e}.up_proj", 0, I, I), ($"{Experts}.{e}.down_proj", 1, 0, H)],
    };

    private static JsonObject Config(int rank, double alpha, params string[] parameters) => new()
    {
        ["peft_type"] = "LORA",
        ["r"] = rank,
        ["lora_alpha"] = alpha,
        ["target_parameters"] = new JsonArray([.. parameters.Select(p => JsonValue.Create("mlp.experts." + p))]),
    };
}
