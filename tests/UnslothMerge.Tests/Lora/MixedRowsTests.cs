namespace UnslothMerge.Tests.Lora;

/// <summary>LoRA on a matrix whose rows transformers puts into another order than the checkpoint's.</summary>
public sealed class MixedRowsTests
{
    private const int Heads = 3;
    private const int Half = 4;
    private const int Inputs = 5;
    private const int Rank = 2;

    private static readonly Numbers A = new Random(1).Numbers(Rank, Inputs);
    private static readonly Numbers B = new Random(2).Numbers(2 * Heads * Half, Rank);

    /// <summary>In the checkpoint the two halves of a head lie row by row, in the model one after the other.</summary>
    [Fact]
    public void A_head_of_two_halves_takes_its_rows()
    {
        const string stored = "vision_encoder.transformer.layers.0.attention.wq.weight";
        var merge = Of("mistral_large4", $$"""{"num_attention_heads": {{Heads}}}""", stored, B.Shape[0])
            .With("""{"r": 2}""", TinyTensor.Lora("model.vision_tower.transformer.layers.0.attention.q_proj", A, B));
        Numbers.Near(Delta(row => (row / (2 * Half) * 2 * Half) + (row % 2 * Half) + (row % (2 * Half) / 2)), merge.Merge()[stored]);
    }

    [Theory]
    [InlineData("""{}""")]
    [InlineData("""{"num_attention_heads": 5}""")]
    [InlineData("""{"num_attention_heads": 3, "num_key_value_heads": 1}""")]
    public void Heads_that_are_not_known_are_refused(string vision)
    {
        var merge = Of("mistral_large4", vision, "vision_encoder.transformer.layers.0.attention.wq.weight", B.Shape[0])
            .With("""{"r": 2}""", TinyTensor.Lora("model.vision_tower.transformer.layers.0.attention.q_proj", A, B));
        Assert.Contains("by PermuteForRope, and num_attention_heads", merge.Refused().Message, StringComparison.Ordinal);
    }

    /// <summary>Gate and up lie row by row in one matrix: each takes every other row, and one of the two may be missing.</summary>
    [Theory]
    [InlineData("gate_proj", 0)]
    [InlineData("up_proj", 1)]
    public void Gate_and_up_take_every_other_row(string module, int place)
    {
        const string stored = "model.llm.layers.0.mlp.w13_dn.weight";
        var merge = Of("inkling_mm_model", "{}", stored, 2 * B.Shape[0])
            .With("""{"r": 2}""", TinyTensor.Lora("model.language_model.layers.0.mlp." + module, A, B));
        Numbers.Near(
            [.. Enumerable.Range(0, 2 * (int)B.Shape[0]).SelectMany(row => row % 2 == place ? Row(row / 2) : new double[Inputs])],
            merge.Merge()[stored]);
    }

    /// <summary>The same in a stack of experts, A and B in PEFT's arrangement.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Experts_keep_gate_and_up_row_by_row(bool across)
    {
        const int experts = 2;
        const string stored = "model.llm.layers.0.mlp.experts.w13_weight";
        var rows = (int)B.Shape[0];
        var (a, b) = (new Random(3).Numbers(experts, across ? rows : Inputs),
            new Random(4).Numbers(across ? Inputs : rows, experts));
        var merge = new TinyModel(
            """{"architectures": ["InklingForConditionalGeneration"], "model_type": "inkling_mm_model"}""",
            (stored, Numbers.Zeros(experts, rows, Inputs)))
            .With("""{"r": 1, "target_parameters": ["mlp.experts.gate_up_proj"], "peft_version": "0.21.2"}""", 
                TinyTensor.Lora("model.language_model.layers.0.mlp.experts", a, b));
        Numbers.Near(
            [.. from e in Enumerable.Range(0, experts)
                from row in Enumerable.Range(0, rows)
                from i in Enumerable.Range(0, Inputs)
                let o = (row % 2 * (rows / 2)) + (row / 2)
                select across ? a[e, o] * b[i, e] : b[o, e] * a[e, i]],
            merge.Merge()[stored]);
    }

    private static TinyModel Of(string modelType, string vision, string name, long rows) => new(
        $$"""{"model_type": "{{modelType}}", "vision_config": {{vision}}}""",
        (name, Numbers.Zeros(rows, Inputs)));

    // alpha is 1.
    private static double[] Row(int row) =>
        [.. Enumerable.Range(0, Inputs).Select(i => Enumerable.Range(0, Rank).Sum(k => B[row, k] * A[k, i]) / Rank)];

    private static double[] Delta(Func<int, int> source) => [.. Enumerable.Range(0, (int)B.Shape[0]).SelectMany(row => Row(source(row)))];
}
