namespace UnslothMerge.Tests.Planning;

/// <summary>No adapter tensor is ever lost: each has its place in the plan, or there is no plan.</summary>
public sealed class PlacementTests : FileTests
{
    private static TinyModel Model => new(
        TinyTensor.Random("model.embed_tokens.weight", [5, 3], 0), TinyTensor.Random("model.layers.0.q.weight", [4, 3], 1),
        TinyTensor.Random("model.layers.0.q.bias", [4], 2), TinyTensor.Random("model.layers.1.q.weight", [4, 3], 3),
        TinyTensor.Random("model.norm.weight", [3], 4), TinyTensor.Random("lm_head.weight", [5, 3], 5));

    [Fact]
    public void Every_tensor_is_placed_once_or_refused()
    {
        string[] modules = ["model.layers.0.q", "model.layers.1.q", "model.layers.2.q", "model.norm", "lm_head", "model.embed_tokens", "q",
            "modle.norm"];
        string[] parts = ["lora_A.weight", "lora_B.weight", "lora_B.bias", "lora_A.default.weight", "lora_B.default.weight", "weight",
            "bias", "modules_to_save.default.weight", "base_layer.weight", "lora_C.weight"];
        long[][] shapes = [[2, 3], [4, 2], [4, 3], [4], [3], [5, 3], [1, 4], []];
        TensorType[] types = [TensorType.F32, TensorType.F32, TensorType.F32, TensorType.BF16, TensorType.I64];
        var tensor = Gen.Select(Index(modules), Index(parts), Index(shapes), Index(types),
            (m, p, s, t) => (Name: $"base_model.model.{m}.{p}", Shape: s, Type: t));

        // Pairs that fit, so that there is something to merge, and strangers among them.
        var pair = Index([0, 1]).Select(Pair);
        var (placed, refused) = (0, 0);
        Gen.Select(pair, tensor.Array[0, 2]).Sample(
            (some, others) =>
            {
                var tensors = some.Concat(others).DistinctBy(t => t.Name)
                    .Select(t => new TinyTensor(t.Name, t.Type, t.Shape, new byte[t.Shape.Count() * t.Type.Bits() / 8])).ToArray();
                MergePlan plan;
                try
                {
                    plan = Model.With("""{"r": 2}""", tensors).Plan(Temp);
                }
                catch (MergeException e)
                {
                    Assert.Contains(tensors,
                        t =>
                        e.Message.Contains(t.Name, StringComparison.Ordinal)
                        || e.Message.Contains("model.embed_tokens.weight", StringComparison.Ordinal));
                    refused++;
                    return;
                }

                Assert.Equal(tensors.Select(t => t.Name).Order(StringComparer.Ordinal),
                    plan.Targets.SelectMany(t => t.Inputs).Order(StringComparer.Ordinal));
                Assert.All(plan.Targets, t => Assert.True(
                    t.Outcome == AdapterOutcome.NotNeeded || plan.Tensors.Single(p => p.Name == t.Tensor).IsChanged));
                placed++;
            },
            iter: 1000,
            threads: 1);
        Assert.True(placed > 50 && refused > 50, $"{placed} were placed, {refused} refused.");
    }

    [Theory]
    [InlineData(TensorType.F8_E4M3)]
    [InlineData(TensorType.I8)]
    [InlineData(TensorType.I32)]
    internal void Factors_that_are_no_floating_point_numbers_are_refused_before_anything_is_written(TensorType type) =>
        Model.With("""{"r": 2}""", new TinyTensor("model.layers.0.q.lora_A.weight", type, [2, 3], new byte[6 * type.Bits() / 8]),
            ("model.layers.0.q.lora_B.weight", Numbers.Zeros(4, 2))).Refused("q.lora_A.weight", type.ToString());

    [Theory]
    [InlineData(1, 4)]
    [InlineData(4, 1)]
    [InlineData(2, 2)]
    public void A_bias_that_is_no_vector_is_refused(long rows, long columns) =>
        Model.With("""{"r": 2}""", [.. TinyTensor.Lora("model.layers.0.q", Numbers.Zeros(2, 3), Numbers.Zeros(4, 2)),
            ("model.layers.0.q.lora_B.bias", Numbers.Zeros(rows, columns))]).Refused("q.lora_B.bias");

    private static (string Name, long[] Shape, TensorType Type)[] Pair(int layer) =>
    [
        ($"base_model.model.model.layers.{layer}.q.lora_A.weight", [2, 3], TensorType.F32),
        ($"base_model.model.model.layers.{layer}.q.lora_B.weight", [4, 2], TensorType.F32),
    ];

    private static Gen<T> Index<T>(T[] values) => Gen.Int[0, values.Length - 1].Select(i => values[i]);

    /// <summary>Tensors that transformers makes several modules of, and names that leave open which module they mean.</summary>
    [Fact]
    public void Rows_of_what_is_no_matrix_are_refused() =>
        new TinyModel("""{"model_type": "hrm_text", "architectures": ["HrmTextForCausalLM"]}""",
                ("model.H_module.layers.0.mlp.gate_up_proj.weight", Numbers.Zeros(16)))
            .With("{}", TinyTensor.Lora("model.H_module.layers.0.mlp.up_proj", Numbers.Zeros(2, 4), Numbers.Zeros(8, 2))).Refused();

    [Theory]
    [InlineData("text_encoder.a_b.lora_A.weight", 0)]
    [InlineData("lora_te_a_b.lora_down.weight", 2)]
    public void Factors_of_diffusers_that_no_module_can_have_are_refused(string name, int dimensions)
    {
        TinyModel.Base(Temp["base"], TinyTensor.Random("a_b.weight", [4, 4], 1), TinyTensor.Random("a.b.weight", [4, 4], 2));
        Directory.CreateDirectory(Temp["adapter"]);
        TinyModel.WriteFile(Temp["adapter/x.safetensors"], (name, Numbers.Zeros([.. new long[] { 4, 4 }.Take(dimensions)])),
            (name.Replace("_down", "_up", StringComparison.Ordinal).Replace("_A", "_B", StringComparison.Ordinal), Numbers.Zeros(4, 4)));
        Errors.Expect(MergeError.AdapterDoesNotFit, () => TinyModel.Plan(Temp["base"], Temp["adapter"]));
    }
}
