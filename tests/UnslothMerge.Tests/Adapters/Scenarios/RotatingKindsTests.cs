using MathNet.Numerics.LinearAlgebra;

namespace UnslothMerge.Tests.Adapters.Scenarios;

/// <summary>OFT, BOFT, HRA, OSF and FRoD: changes by linear algebra.</summary>
public sealed class RotatingKindsTests
{
    private readonly Random _random = new(11);

    // The series that PEFT sums: the powers of Q with their factors.
    public static TheoryData<int, string?, double[]> Series => new()
    {
        { 1, "0.21.2", [] },
        { 2, "0.21.2", [2] },
        { 3, "0.21.2", [2, 2, 1] },
        { 4, "0.21.2", [2, 2, 1] },
        { 5, "0.18.0.dev0@abc", [2, 2, 2, 1] },
        { 6, "1.0", [2, 2, 2, 2, 1] },
        { 3, "0.17.1", [2, 2] },
        { 5, null, [2, 2, 2, 2] },
    };

    [Theory, MemberData(nameof(Series))]
    public void Oft_sums_the_series_of_its_version(int terms, string? version, double[] coefficients)
    {
        var (weight, triangles) = (_random.Numbers(30, 12), _random.Scaled(0.3, 3, 6));
        var config = new JsonObject { ["peft_type"] = "OFT", ["use_cayley_neumann"] = true, ["num_cayley_neumann_terms"] = terms,
            ["peft_version"] = version };
        var rotation = Dense.BlockDiagonal(Enumerable.Range(0, 3).Select(b =>
        {
            var skew = Dense.Skew(triangles, b, 4);
            return coefficients.Select((c, i) => skew.Power(i + 1) * c).Aggregate(Dense.Identity(4), (sum, term) => sum + term);
        }));
        Dense.Near(Dense.Of(weight) * rotation.Transpose(), Merge(weight, config.ToJsonString(), ("lin.oft_R.weight", triangles)));
    }

    [Fact]
    public void Oft_rotates_inputs_of_linears_and_outputs_of_embeddings_the_first_adapter_first()
    {
        var (linear, conv1D, conv, embedding) =
            (_random.Numbers(50, 12), _random.Numbers(12, 50), _random.Numbers(9, 3, 2, 2), _random.Numbers(70, 12));
        Numbers[] triangles = [_random.Numbers(2, 15), _random.Numbers(2, 15)];
        var model = new TinyModel(("a.weight", linear), ("b.weight", conv1D), ("b.bias", Numbers.Zeros(50)), ("c.weight", conv),
            ("d.weight", embedding));
        Array.ForEach(triangles, t => model.With("""{"peft_type": "OFT"}""", ("a.oft_R.weight", t), ("b.oft_R.weight", t),
            ("c.oft_R.weight", t), ("d.oft_embedding_R.weight", t)));
        var merged = model.Merge();
        var rotation = Dense.Product(triangles.Select(t =>
            Dense.BlockDiagonal([Dense.Cayley(Dense.Skew(t, 0, 6)), Dense.Cayley(Dense.Skew(t, 1, 6))])));

        // A layer's input x becomes x·R₀·R₁ before it meets Wᵀ.
        Dense.Near(Dense.Of(linear) * rotation.Transpose(), merged["a.weight"]);
        Dense.Near(rotation * Dense.Of(conv1D), merged["b.weight"]);
        Dense.Near(Dense.Of(conv) * rotation.Transpose(), merged["c.weight"]);
        Dense.Near(Dense.Of(embedding) * rotation, merged["d.weight"]);
    }

    [Theory]
    [InlineData(0.5, 4)]
    [InlineData(100, 4)]
    [InlineData(0.5, 6)]
    public void Oft_scales_large_rotations_down_and_repeats_a_shared_block(double eps, int outputs)
    {
        // Outputs of the block's size must not be taken for inputs.
        var (weight, triangles) = (_random.Numbers(outputs, 12), _random.Numbers(1, 6));
        var config = new JsonObject { ["peft_type"] = "OFT", ["block_share"] = true, ["coft"] = true, ["eps"] = eps };
        var skew = Dense.Skew(triangles, 0, 4);
        var block = Dense.Cayley(skew * Math.Min(1, eps / skew.FrobeniusNorm()));
        Dense.Near(Dense.Of(weight) * Dense.BlockDiagonal([block, block, block]).Transpose(),
            Merge(weight, config.ToJsonString(), ("lin.oft_R.weight", triangles)));
    }

    [Theory]
    [InlineData(1, 3, 5)]
    [InlineData(2, 6, 2)]
    [InlineData(3, 8, 4)]
    public void Boft_multiplies_its_butterfly_factors(int factors, int blocks, int size)
    {
        const int outputs = 20;
        var width = blocks * size;
        var (weight, rotations, scales) =
            (_random.Numbers(outputs, width), _random.Numbers(factors, blocks, size, size), _random.Scaled(2, outputs, 1));
        var product = Dense.Identity(width);
        for (var f = 0; f < factors; f++)
        {
            var diagonal = Dense.BlockDiagonal(Enumerable.Range(0, blocks).Select(b =>
                Dense.Cayley(Dense.Of(size, size, (i, j) => (rotations[f, b, i, j] - rotations[f, b, j, i]) / 2))));

            // Even chunks of half a block first, then odd ones, in each span of 2ᶠ blocks.
            List<int> order = factors == 1 ? [.. Enumerable.Range(0, width)] : [];
            for (var start = 0; factors > 1 && start < width; start += size << f)
            {
                var chunks = Enumerable.Range(start, size << f).Chunk(size / 2).ToList();
                order.AddRange(chunks.Where((_, i) => i % 2 == 0).Concat(chunks.Where((_, i) => i % 2 == 1)).SelectMany(c => c));
            }

            var permutation = Dense.Of(width, width, (i, j) => order[i] == j ? 1 : 0);
            product = permutation * diagonal * permutation.Transpose() * product;
        }

        var rotated = Dense.Of(weight) * product.Transpose();
        Dense.Near(Dense.Of(outputs, width, (i, j) => rotated[i, j] * scales[i]),
            Merge(weight, """{"peft_type": "BOFT"}""", ("lin.boft_R", rotations), ("lin.boft_s", scales)));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Hra_reflects_one_vector_after_the_other(bool orthogonal)
    {
        var (weight, conv1D) = (_random.Numbers(33, 10), _random.Numbers(10, 33));
        Numbers[] vectors = [_random.Numbers(10, 3), _random.Numbers(10, 3)];
        var model = new TinyModel(("a.weight", weight), ("b.weight", conv1D), ("b.bias", Numbers.Zeros(33)));
        var config = new JsonObject { ["peft_type"] = "HRA", ["r"] = 3, ["apply_GS"] = orthogonal }.ToJsonString();
        Array.ForEach(vectors, v => model.With(config, ("a.hra_u", v), ("b.hra_u", v)));
        var merged = model.Merge();

        // The projection off the span of the columns, or one reflection per column.
        var product = Dense.Product(vectors.Select(Dense.Of).Select(u => orthogonal
            ? Dense.Identity(10) - (2 * u * (u.Transpose() * u).Inverse() * u.Transpose())
            : Dense.Product(u.EnumerateColumns().Select(Reflection))));
        Dense.Near(Dense.Of(weight) * product, merged["a.weight"]);
        Dense.Near(product.Transpose() * Dense.Of(conv1D), merged["b.weight"]);
    }

    [Theory]
    [InlineData(30, 12, 5)]
    [InlineData(12, 30, 12)]
    [InlineData(12, 30, 0)]
    public void Osf_replaces_the_smallest_singular_components(int outputs, int inputs, int low)
    {
        // W is made of known components: orthogonal directions by reflections, singular values falling by steps.
        var shorter = Math.Min(outputs, inputs);
        var (left, right) = (Orthogonal(outputs), Orthogonal(inputs));
        Matrix<double> Components(int first) =>
            left * Dense.Of(outputs, inputs, (i, j) => i == j && i >= first && i < shorter ? shorter - i : 0) * right;
        var all = Components(0);
        var weight = Numbers.Of([outputs, inputs], i => all[i / inputs, i % inputs]);
        var (u, s, v) = (_random.Numbers(outputs, low), _random.Numbers(low), _random.Numbers(low, inputs));
        var merged = Merge(weight, """{"peft_type": "OSF"}""", ("lin.osf_svd_params.U_low", u), ("lin.osf_svd_params.S_low", s),
            ("lin.osf_svd_params.V_low", v));
        Dense.Near(all - Components(shorter - low) +
            Dense.Of(outputs, inputs, (i, j) => Enumerable.Range(0, low).Sum(k => u[i, k] * s[k] * v[k, j])), merged);
    }

    [Fact]
    public void Frod_rebuilds_the_weight_either_way_round_and_adds_weighted_adapters()
    {
        const int n = 6;
        const string linearName = "h.0.attention.output.dense", conv1DName = "h.0.mlp";
        var (linear, conv1D) = (_random.Numbers(20, n), _random.Numbers(n, 20));
        var model = new TinyModel((linearName + ".weight", linear), (conv1DName + ".weight", conv1D),
            (conv1DName + ".bias", Numbers.Zeros(20)));
        var (expected, transposed) = (Dense.Of(linear), Dense.Of(conv1D));
        foreach (var weight in new[] { 1.0, 0.25 })
        {
            var (v, lambda, sparse) = (_random.Numbers(n, n), _random.Scaled(3, n), _random.Scaled(3, 3));
            model.With("""{"peft_type": "FROD", "save_projection": true}""", weight,
                [.. new[] { (linearName, "attention_output"), (conv1DName, "mlp") }.SelectMany(m => new TinyTensor[]
                {
                    ($"base_model.frod_V.{m.Item2}", v),
                    TinyTensor.Of<long>($"base_model.frod_s_indices.{m.Item2}", TensorType.I64, [2, 3], 0, 2, 0, 1, 5, 1),
                    TinyTensor.Of<long>($"base_model.frod_s_size.{m.Item2}", TensorType.I64, [2], n, n),
                    ($"{m.Item1}.frod_lambda_l", lambda),
                    ($"{m.Item1}.frod_lambda_s_values", sparse),
                })]);
            expected += weight * Delta(Dense.Of(linear));
            transposed += weight * Delta(Dense.Of(conv1D).Transpose()).Transpose();

            Matrix<double> Delta(Matrix<double> w)
            {
                // (0, 1) is there twice: duplicates add.
                var s = Dense.Of(n, n, (i, j) => (i == j ? lambda[i] : 0) +
                    ((i, j) == (0, 1) ? sparse[0] + sparse[2] : (i, j) == (2, 5) ? sparse[1] : 0));
                return ((w * Dense.Of(v).Inverse().Transpose()).NormalizeColumns(2) * s * Dense.Of(v).Transpose()) - w;
            }
        }

        var merged = model.Merge();
        Dense.Near(expected, merged[linearName + ".weight"]);
        Dense.Near(transposed, merged[conv1DName + ".weight"]);
    }

    private static double[] Merge(Numbers weight, string config, params TinyTensor[] adapter) =>
        new TinyModel(("lin.weight", weight)).With(config, adapter).Merge()["lin.weight"];

    private static Matrix<double> Reflection(Vector<double> v) =>
        Dense.Identity(v.Count) - (2 * v.OuterProduct(v) / v.DotProduct(v));

    private Matrix<double> Orthogonal(int n) =>
        Dense.Product(Enumerable.Range(0, n).Select(_ => Reflection(Vector<double>.Build.DenseOfArray(_random.Numbers(n).Values))));
}
