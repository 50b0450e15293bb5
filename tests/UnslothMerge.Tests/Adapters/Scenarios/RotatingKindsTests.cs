namespace UnslothMerge.Tests.Adapters.Scenarios;

/// <summary>OFT, BOFT, HRA, OSF and FRoD, against the reference formulas of Test-MergedModel: changes by linear algebra.</summary>
public sealed class RotatingKindsTests
{
    private readonly Random _random = new(11);

    /// <summary>Which powers of Q are summed, and by which factors, depends on the version.</summary>
    [Theory]
    [InlineData(1, "0.21.2")]
    [InlineData(2, "0.21.2")]
    [InlineData(3, "0.21.2")]
    [InlineData(4, "0.21.2")]
    [InlineData(5, "0.18.0.dev0@abc")]
    [InlineData(6, "1.0")]
    [InlineData(3, "0.17.1")]
    [InlineData(5, null)]
    public void Oft_sums_the_series_of_its_version(int terms, string? version)
    {
        var config = new JsonObject { ["peft_type"] = "OFT", ["use_cayley_neumann"] = true, ["num_cayley_neumann_terms"] = terms,
            ["peft_version"] = version };
        var model = Model(_random.Numbers(30, 12)).With(config.ToJsonString(), ("lin.oft_R.weight", _random.Scaled(0.3, 3, 6)));
        model.Verify(changes: terms > 1);
    }

    [Fact]
    public void Oft_rotates_inputs_of_linears_and_outputs_of_embeddings_the_first_adapter_first()
    {
        var model = new TinyModel(("a.weight", _random.Numbers(50, 12)), ("b.weight", _random.Numbers(12, 50)),
            ("b.bias", Numbers.Zeros(50)), ("c.weight", _random.Numbers(9, 3, 2, 2)), ("d.weight", _random.Numbers(70, 12)));
        foreach (var triangles in new[] { _random.Numbers(2, 15), _random.Numbers(2, 15) })
        {
            model.With("""{"peft_type": "OFT"}""", ("a.oft_R.weight", triangles), ("b.oft_R.weight", triangles),
                ("c.oft_R.weight", triangles), ("d.oft_embedding_R.weight", triangles));
        }

        model.Verify();
    }

    [Theory]
    [InlineData(0.5, 4)]
    [InlineData(100, 4)]
    [InlineData(0.5, 6)]
    public void Oft_scales_large_rotations_down_and_repeats_a_shared_block(double eps, int outputs)
    {
        // Outputs of the block's size must not be taken for inputs.
        var config = new JsonObject { ["peft_type"] = "OFT", ["block_share"] = true, ["coft"] = true, ["eps"] = eps };
        Model(_random.Numbers(outputs, 12)).With(config.ToJsonString(), ("lin.oft_R.weight", _random.Numbers(1, 6))).Verify();
    }

    [Theory]
    [InlineData(1, 3, 5)]
    [InlineData(2, 6, 2)]
    [InlineData(3, 8, 4)]
    public void Boft_multiplies_its_butterfly_factors(int factors, int blocks, int size) => Model(_random.Numbers(20, blocks * size))
        .With("""{"peft_type": "BOFT"}""", ("lin.boft_R", _random.Numbers(factors, blocks, size, size)),
            ("lin.boft_s", _random.Scaled(2, 20, 1))).Verify();

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Hra_reflects_one_vector_after_the_other(bool orthogonal)
    {
        var model = new TinyModel(("a.weight", _random.Numbers(33, 10)), ("b.weight", _random.Numbers(10, 33)),
            ("b.bias", Numbers.Zeros(33)));
        var config = new JsonObject { ["peft_type"] = "HRA", ["r"] = 3, ["apply_GS"] = orthogonal }.ToJsonString();
        foreach (var vectors in new[] { _random.Numbers(10, 3), _random.Numbers(10, 3) })
        {
            model.With(config, ("a.hra_u", vectors), ("b.hra_u", vectors));
        }

        model.Verify();
    }

    [Theory]
    [InlineData(30, 12, 5)]
    [InlineData(12, 30, 12)]
    [InlineData(12, 30, 0)]
    public void Osf_replaces_the_smallest_singular_components(int outputs, int inputs, int low) => Model(_random.Numbers(outputs, inputs))
        .With("""{"peft_type": "OSF"}""", ("lin.osf_svd_params.U_low", _random.Numbers(outputs, low)),
            ("lin.osf_svd_params.S_low", _random.Numbers(low)), ("lin.osf_svd_params.V_low", _random.Numbers(low, inputs)))
        .Verify(changes: low > 0);

    [Fact]
    public void Frod_rebuilds_the_weight_either_way_round_and_adds_weighted_adapters()
    {
        const int n = 6;
        const string linear = "h.0.attention.output.dense", conv1D = "h.0.mlp";
        var model = new TinyModel((linear + ".weight", _random.Numbers(20, n)), (conv1D + ".weight", _random.Numbers(n, 20)),
            (conv1D + ".bias", Numbers.Zeros(20)));
        foreach (var weight in new[] { 1.0, 0.25 })
        {
            var (v, lambda, sparse) = (_random.Numbers(n, n), _random.Scaled(3, n), _random.Scaled(3, 3));
            model.With("""{"peft_type": "FROD", "save_projection": true}""", weight,
                [.. Part(linear, "attention_output"), .. Part(conv1D, "mlp")]);

            // (0, 1) is there twice: duplicates add.
            TinyTensor[] Part(string module, string category) =>
            [
                ($"base_model.frod_V.{category}", v),
                TinyTensor.Of<long>($"base_model.frod_s_indices.{category}", TensorType.I64, [2, 3], 0, 2, 0, 1, 5, 1),
                TinyTensor.Of<long>($"base_model.frod_s_size.{category}", TensorType.I64, [2], n, n),
                ($"{module}.frod_lambda_l", lambda),
                ($"{module}.frod_lambda_s_values", sparse),
            ];
        }

        model.Verify();
    }

    private static TinyModel Model(Numbers weight) => new(("lin.weight", weight));
}
