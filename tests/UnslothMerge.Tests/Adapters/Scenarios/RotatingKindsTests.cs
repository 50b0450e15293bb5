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

    [Theory]
    [MemberData(nameof(Series))]
    public void Oft_sums_the_series_of_its_version(int terms, string? version, double[] coefficients)
    {
        var (weight, triangles) = (Values.Random(_random, 1, 30, 12), Values.Random(_random, 0.3, 3, 6));
        var config = new JsonObject { ["peft_type"] = "OFT", ["use_cayley_neumann"] = true, ["num_cayley_neumann_terms"] = terms,
            ["peft_version"] = version };
        var merged = new Scenario(new() { ["lin.weight"] = weight })
            .With(config, new() { ["base_model.model.lin.oft_R.weight"] = triangles }).Merge();
        var rotation = Dense.BlockDiagonal([.. Enumerable.Range(0, 3).Select(b =>
        {
            var (skew, power, sum) = (Skew(triangles, b, 4), Dense.Identity(4), Dense.Identity(4));
            foreach (var coefficient in coefficients)
            {
                power = Dense.Times(power, skew);
                sum = Dense.Sum(sum, power, coefficient);
            }

            return sum;
        })]);
        Scenario.Equal(Dense.Flat(Dense.Times(Dense.Of(weight), Dense.Transpose(rotation))), merged["lin.weight"]);
    }

    [Fact]
    public void Oft_rotates_inputs_of_linears_and_outputs_of_embeddings_the_first_adapter_first()
    {
        var (linear, conv1D, conv, embedding) =
            (Values.Random(_random, 1, 50, 12), Values.Random(_random, 1, 12, 50), Values.Random(_random, 1, 9, 3, 2, 2),
                Values.Random(_random, 1, 70, 12));
        Values[] triangles = [Values.Random(_random, 1, 2, 15), Values.Random(_random, 1, 2, 15)];
        var scenario = new Scenario(new() { ["a.weight"] = linear, ["b.weight"] = conv1D, ["b.bias"] = new([50], new double[50]),
            ["c.weight"] = conv, ["d.weight"] = embedding });
        foreach (var triangle in triangles)
        {
            const string part = "oft_R.weight";
            scenario.With(new() { ["peft_type"] = "OFT" }, new()
            {
                [$"base_model.model.a.{part}"] = triangle,
                [$"base_model.model.b.{part}"] = triangle,
                [$"base_model.model.c.{part}"] = triangle,
                ["base_model.model.d.oft_embedding_R.weight"] = triangle,
            });
        }

        var merged = scenario.Merge();
        var rotation = Dense.Times([.. triangles.Select(t =>
            Dense.BlockDiagonal([Dense.Cayley(Skew(t, 0, 6)), Dense.Cayley(Skew(t, 1, 6))]))]);

        // A layer's input x becomes x·R₀·R₁ before it meets Wᵀ.
        Scenario.Equal(Dense.Flat(Dense.Times(Dense.Of(linear), Dense.Transpose(rotation))), merged["a.weight"]);
        Scenario.Equal(Dense.Flat(Dense.Times(rotation, Dense.Of(conv1D))), merged["b.weight"]);
        Scenario.Equal(Dense.Flat(Dense.Times(Dense.Of(conv), Dense.Transpose(rotation))), merged["c.weight"]);
        Scenario.Equal(Dense.Flat(Dense.Times(Dense.Of(embedding), rotation)), merged["d.weight"]);
    }

    [Theory]
    [InlineData(0.5, 4)]
    [InlineData(100, 4)]
    [InlineData(0.5, 6)]
    public void Oft_scales_large_rotations_down_and_repeats_a_shared_block(double eps, int outputs)
    {
        // Outputs of the block's size must not be taken for inputs.
        var (weight, triangles) = (Values.Random(_random, 1, outputs, 12), Values.Random(_random, 1, 1, 6));
        var config = new JsonObject { ["peft_type"] = "OFT", ["block_share"] = true, ["coft"] = true, ["eps"] = eps };
        var merged = new Scenario(new() { ["lin.weight"] = weight })
            .With(config, new() { ["base_model.model.lin.oft_R.weight"] = triangles }).Merge();
        var norm = Math.Sqrt(2 * triangles.Numbers.Sum(v => v * v));
        var skew = Skew(triangles, 0, 4);
        var block = Dense.Cayley(Dense.Of(4, 4, (i, j) => skew[i, j] * Math.Min(1, eps / norm)));
        Scenario.Equal(Dense.Flat(Dense.Times(Dense.Of(weight), Dense.Transpose(Dense.BlockDiagonal([block, block, block])))),
            merged["lin.weight"]);
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
            (Values.Random(_random, 1, outputs, width), Values.Random(_random, 1, factors, blocks, size, size),
                Values.Random(_random, 2, outputs, 1));
        var merged = new Scenario(new() { ["lin.weight"] = weight })
            .With(new() { ["peft_type"] = "BOFT" },
                new() { ["base_model.model.lin.boft_R"] = rotations, ["base_model.model.lin.boft_s"] = scales })
            .Merge();

        var product = Dense.Identity(width);
        for (var f = 0; f < factors; f++)
        {
            var diagonal = Dense.BlockDiagonal([.. Enumerable.Range(0, blocks).Select(b => Dense.Cayley(Dense.Of(size, size, (i, j) =>
            {
                var at = ((f * blocks) + b) * size * size;
                return (rotations.Numbers[at + (i * size) + j] - rotations.Numbers[at + (j * size) + i]) / 2;
            })))]);

            // Even chunks of half a block first, then odd ones, in each span of 2ᶠ blocks.
            List<int> order = factors == 1 ? [.. Enumerable.Range(0, width)] : [];
            for (var start = 0; factors > 1 && start < width; start += size << f)
            {
                var chunks = Enumerable.Range(start, size << f).Chunk(size / 2).ToList();
                order.AddRange(chunks.Where((_, i) => i % 2 == 0).Concat(chunks.Where((_, i) => i % 2 == 1)).SelectMany(c => c));
            }

            var permutation = Dense.Of(width, width, (i, j) => order[i] == j ? 1 : 0);
            product = Dense.Times(permutation, diagonal, Dense.Transpose(permutation), product);
        }

        var rotated = Dense.Times(Dense.Of(weight), Dense.Transpose(product));
        Scenario.Equal(Dense.Flat(Dense.Of(outputs, width, (i, j) => rotated[i, j] * scales.Numbers[i])), merged["lin.weight"]);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Hra_reflects_one_vector_after_the_other(bool orthogonal)
    {
        var (weight, conv1D) = (Values.Random(_random, 1, 33, 10), Values.Random(_random, 1, 10, 33));
        Values[] vectors = [Values.Random(_random, 1, 10, 3), Values.Random(_random, 1, 10, 3)];
        var scenario = new Scenario(new() { ["a.weight"] = weight, ["b.weight"] = conv1D, ["b.bias"] = new([33], new double[33]) });
        foreach (var v in vectors)
        {
            scenario.With(new() { ["peft_type"] = "HRA", ["r"] = 3, ["apply_GS"] = orthogonal },
                new() { ["base_model.model.a.hra_u"] = v, ["base_model.model.b.hra_u"] = v });
        }

        var merged = scenario.Merge();
        var product = Dense.Times([.. vectors.Select(v =>
        {
            var u = Dense.Of(v);

            // The projection off the span of the columns, or one reflection per column.
            return orthogonal
                ? Dense.Sum(Dense.Identity(10), Dense.Times(u, Dense.Inverse(Dense.Times(Dense.Transpose(u), u)), Dense.Transpose(u)), -2)
                : Dense.Times([.. Enumerable.Range(0, 3).Select(k =>
                {
                    var squares = Enumerable.Range(0, 10).Sum(i => u[i, k] * u[i, k]);
                    return Dense.Of(10, 10, (i, j) => (i == j ? 1 : 0) - (2 * u[i, k] * u[j, k] / squares));
                })]);
        })]);
        Scenario.Equal(Dense.Flat(Dense.Times(Dense.Of(weight), product)), merged["a.weight"]);
        Scenario.Equal(Dense.Flat(Dense.Times(Dense.Transpose(product), Dense.Of(conv1D))), merged["b.weight"]);
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
        double[,] Components(int first) =>
            Dense.Times(left, Dense.Of(outputs, inputs, (i, j) => i == j && i >= first && i < shorter ? shorter - i : 0), right);
        var all = Components(0);
        var weight = new Values([outputs, inputs], [.. Dense.Flat(all).Select(v => (double)(float)v)]);
        var (u, s, v) = (Values.Random(_random, 1, outputs, low), Values.Random(_random, 1, low), Values.Random(_random, 1, low, inputs));
        var merged = new Scenario(new() { ["lin.weight"] = weight })
            .With(new() { ["peft_type"] = "OSF" }, new() { [Name("U_low")] = u, [Name("S_low")] = s, [Name("V_low")] = v })
            .Merge();
        var expected = Dense.Sum(all, Components(shorter - low), -1);
        expected = Dense.Of(outputs, inputs,
            (i, j) => expected[i, j] + Enumerable.Range(0, low).Sum(k => u[i, k] * s.Numbers[k] * v[k, j]));
        Scenario.Equal(Dense.Flat(expected), merged["lin.weight"]);

        static string Name(string part) => $"base_model.model.lin.osf_svd_params.{part}";
    }

    [Fact]
    public void Frod_rebuilds_the_weight_either_way_round_and_adds_weighted_adapters()
    {
        const int n = 6;
        var (linear, conv1D) = (Values.Random(_random, 1, 20, n), Values.Random(_random, 1, n, 20));
        var scenario = new Scenario(new() { ["h.0.attention.output.dense.weight"] = linear, ["h.0.mlp.weight"] = conv1D,
            ["h.0.mlp.bias"] = new([20], new double[20]) });
        var (expected, transposed) = (Dense.Of(linear), Dense.Of(conv1D));
        foreach (var weight in new[] { 1.0, 0.25 })
        {
            var (v, lambda, sparse) = (Values.Random(_random, 1, n, n), Values.Random(_random, 3, n), Values.Random(_random, 3, 3));
            var indices = new Values([2, 3], [0, 2, 0, 1, 5, 1], AreIndices: true);
            var size = new Values([2], [n, n], AreIndices: true);
            scenario.With(
                new() { ["peft_type"] = "FROD", ["save_projection"] = true },
                new()
                {
                    ["base_model.frod_V.attention_output"] = v,
                    ["base_model.frod_V.mlp"] = v,
                    ["base_model.frod_s_indices.attention_output"] = indices,
                    ["base_model.frod_s_indices.mlp"] = indices,
                    ["base_model.frod_s_size.attention_output"] = size,
                    ["base_model.frod_s_size.mlp"] = size,
                    ["base_model.model.h.0.attention.output.dense.frod_lambda_l"] = lambda,
                    ["base_model.model.h.0.attention.output.dense.frod_lambda_s_values"] = sparse,
                    ["base_model.model.h.0.mlp.frod_lambda_l"] = lambda,
                    ["base_model.model.h.0.mlp.frod_lambda_s_values"] = sparse,
                },
                weight);
            expected = Dense.Sum(expected, Delta(Dense.Of(linear)), weight);
            transposed = Dense.Sum(transposed, Dense.Transpose(Delta(Dense.Transpose(Dense.Of(conv1D)))), weight);

            double[,] Delta(double[,] w)
            {
                var y = Dense.Times(w, Dense.Transpose(Dense.Inverse(Dense.Of(v))));
                var norms = Enumerable.Range(0, n).Select(j => Math.Sqrt(Enumerable.Range(0, 20).Sum(i => y[i, j] * y[i, j]))).ToArray();
                var u = Dense.Of(20, n, (i, j) => y[i, j] / norms[j]);

                // (0, 1) is there twice: duplicates add.
                var s = Dense.Of(n, n,
                    (i, j) =>
                    (i == j ? lambda.Numbers[i] : 0) +
                    ((i, j) == (0, 1) ? sparse.Numbers[0] + sparse.Numbers[2] : (i, j) == (2, 5) ? sparse.Numbers[1] : 0));
                return Dense.Sum(Dense.Times(u, s, Dense.Transpose(Dense.Of(v))), w, -1);
            }
        }

        var merged = scenario.Merge();
        Scenario.Equal(Dense.Flat(expected), merged["h.0.attention.output.dense.weight"]);
        Scenario.Equal(Dense.Flat(transposed), merged["h.0.mlp.weight"]);
    }

    // The upper triangle is stored row by row.
    private static double[,] Skew(Values triangles, int block, int n)
    {
        var skew = new double[n, n];
        var at = block * n * (n - 1) / 2;
        for (var i = 0; i < n; i++)
        {
            for (var j = i + 1; j < n; j++)
            {
                skew[i, j] = triangles.Numbers[at++];
                skew[j, i] = -skew[i, j];
            }
        }

        return skew;
    }

    private double[,] Orthogonal(int n)
    {
        var vectors = Enumerable.Range(0, n).Select(_ => Values.Random(_random, 1, n).Numbers);
        return Dense.Times([.. vectors.Select(v => Dense.Of(n, n, (i, j) => (i == j ? 1 : 0) - (2 * v[i] * v[j] / v.Sum(x => x * x))))]);
    }
}
