namespace UnslothMerge.Bench.Generating;

/// <summary>The dimensions of a Llama: what its config.json says, and the tensors that follow from it.</summary>
internal sealed record ModelShape(
    string Name, int Hidden, int Intermediate, int Layers, int Heads, int KeyValueHeads, int HeadSize, int Vocabulary, bool Tied,
    double RopeFactor)
{
    /// <summary>The shapes that have names: those of Llama 3.2 1B, Llama 3.1 8B and 405B, and one that takes no time.</summary>
    public static IReadOnlyList<ModelShape> Known { get; } =
    [
        new("tiny", 64, 128, 2, 4, 2, 16, 512, true, 8),
        new("1b", 2048, 8192, 16, 32, 8, 64, 128256, true, 32),
        new("8b", 4096, 14336, 32, 32, 8, 128, 128256, false, 8),
        new("405b", 16384, 53248, 126, 128, 8, 128, 128256, false, 8),
    ];

    /// <summary>The linear layers of a decoder layer: module name below it, outputs, inputs.</summary>
    public IReadOnlyList<(string Module, int Out, int In)> Linears =>
    [
        ("self_attn.q_proj", Heads * HeadSize, Hidden),
        ("self_attn.k_proj", KeyValueHeads * HeadSize, Hidden),
        ("self_attn.v_proj", KeyValueHeads * HeadSize, Hidden),
        ("self_attn.o_proj", Hidden, Heads * HeadSize),
        ("mlp.gate_proj", Intermediate, Hidden),
        ("mlp.up_proj", Intermediate, Hidden),
        ("mlp.down_proj", Hidden, Intermediate),
    ];

    /// <summary>The shape of a name.</summary>
    public static ModelShape Of(string name) => Known.First(s => s.Name == name);

    /// <summary>All tensors in the order of the model.</summary>
    public IEnumerable<TensorSpec> Tensors(TensorType type)
    {
        yield return new TensorSpec("model.embed_tokens.weight", type, [Vocabulary, Hidden]);
        for (var layer = 0; layer < Layers; layer++)
        {
            foreach (var (module, rows, columns) in Linears)
            {
                yield return new TensorSpec($"model.layers.{layer}.{module}.weight", type, [rows, columns]);
            }

            yield return new TensorSpec($"model.layers.{layer}.input_layernorm.weight", type, [Hidden]);
            yield return new TensorSpec($"model.layers.{layer}.post_attention_layernorm.weight", type, [Hidden]);
        }

        yield return new TensorSpec("model.norm.weight", type, [Hidden]);
        if (!Tied)
        {
            yield return new TensorSpec("lm_head.weight", type, [Vocabulary, Hidden]);
        }
    }
}
