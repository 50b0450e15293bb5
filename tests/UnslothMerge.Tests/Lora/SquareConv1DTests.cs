namespace UnslothMerge.Tests.Lora;

/// <summary>The layer's type, not the adapter's <c>fan_in_fan_out</c>, says how a square weight is stored, whatever the kind of
/// adapter.</summary>
public sealed class SquareConv1DTests
{
    private const int N = 6;

    [Theory]
    [InlineData("gpt2", "h.0.attn.c_proj", false, true)]
    [InlineData("gpt2", "h.0.attn.c_proj", true, true)]
    [InlineData("llama", "layers.0.self_attn.q_proj", true, false)]
    public void ASquareWeightIsStoredAsItsLayerTypeStoresIt(string model, string module, bool fanInFanOut, bool transposed)
    {
        var random = new Random(3);
        var (weight, bias) = (random.Numbers(N, N), random.Numbers(N));
        var (a, b) = (random.Numbers(2, N), random.Numbers(N, 2));
        var scale = random.Numbers(N);
        var vectors = random.Numbers(N, 1);
        var flag = fanInFanOut ? "true" : "false";

        double[] Merge(string config, params (string Part, Numbers Numbers)[] parts)
        {
            return new TinyModel($$"""{ "model_type": "{{model}}", "tie_word_embeddings": false }""",
                (module + ".weight", weight), (module + ".bias", bias))
                .With(config, [.. parts.Select(p => ($"{module}.{p.Part}", p.Numbers))]).Merge()[module + ".weight"];
        }

        double[] Expect(Func<int, int, double> ofOutputAndInput) =>
            [.. Enumerable.Range(0, N * N).Select(i => transposed ? ofOutputAndInput(i % N, i / N) : ofOutputAndInput(i / N, i % N))];

        double W(int o, int i) => transposed ? weight[i, o] : weight[o, i];

        Numbers.Near(
            Expect((o, i) => W(o, i) * (1 + Enumerable.Range(0, 2).Sum(k => b[o, k] * a[k, i]))),
            Merge($$"""{ "peft_type": "HIRA", "r": 2, "fan_in_fan_out": {{flag}} }""", ("hira_A", a), ("hira_B", b)));
        Numbers.Near(
            Expect((o, i) => W(o, i) * scale.Values[o]),
            Merge($$"""{ "peft_type": "IA3", "target_modules": ["{{module}}"], "feedforward_modules": [], "fan_in_fan_out": {{flag}} }""",
                ("ia3_l", scale with { Shape = [N, 1] })));

        // One Householder reflection of the inputs: W − 2·(W·u)·uᵀ with the unit vector u.
        var length = vectors.Values.Sum(v => v * v);
        Numbers.Near(
            Expect((o, i) => W(o, i) - (2 * Enumerable.Range(0, N).Sum(j => W(o, j) * vectors.Values[j]) * vectors.Values[i] / length)),
            Merge("""{ "peft_type": "HRA", "r": 1, "apply_GS": false }""", ("hra_u", vectors)));
    }
}
