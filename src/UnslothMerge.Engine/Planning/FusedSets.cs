namespace UnslothMerge.Planning;

/// <summary>
/// What vLLM joins to one matrix when it loads a model: a part of a set may not be quantized alone, and blocks may not reach from one
/// member into the next. Source: vLLM 0.32, <c>packed_modules_mapping</c>, <c>stacked_params_mapping</c>,
/// <c>validate_fp8_block_shape</c>.
/// </summary>
internal sealed class FusedSets(ModelConfig config, int? block)
{
    // Members in vLLM's order.
    private static readonly string[][] Sets =
    [
        ["q_proj", "k_proj", "v_proj"], ["query", "key", "value"], ["q_lin", "k_lin", "v_lin"], ["wq", "wk", "wv"],
        ["to_q", "to_k", "to_v"], ["query_proj", "key_proj", "value_proj"], ["q", "k", "v"], ["q_a_proj", "kv_a_proj_with_mqa"],
        ["gate_proj", "up_proj"], ["w1", "w3"], ["in_proj_qkv", "in_proj_z"], ["in_proj_b", "in_proj_a"],
    ];

    // Experts' matrices whose rows are those of the hidden state.
    private static readonly string[] Outputs = ["down_proj", "w2", "fc2", "down", "output_linear"];

    /// <summary>Keeps the rest of a set in 16 bits where a part stays so, and what blocks do not fit.</summary>
    public void Apply(IEnumerable<Layer> layers)
    {
        foreach (var set in layers.Select(l => (Layer: l, Key: KeyOf(l))).GroupBy(l => l.Key.Set, StringComparer.Ordinal))
        {
            var members = set.OrderBy(l => l.Key.Place).Select(l => l.Layer).ToList();
            var reason = members.Exists(m => m.Kept is not null) ? "parts of a set that vLLM joins, whose other parts stay in 16 bits"
                : block is { } rows && !Fits(members, rows) ? $"parts of a matrix of vLLM's that end within a block of {rows} rows"
                : null;
            members.ForEach(m => m.Kept ??= reason);
        }
    }

    /// <summary>The name of the set that a module belongs to; its own if it belongs to none.</summary>
    public static string SetOf(string module) => KeyOf(module).Set;

    private static (string Set, int Place) KeyOf(Layer layer) => layer.Experts.Count > 0 ? (layer.Experts[0], 0) : KeyOf(layer.Module);

    private static (string Set, int Place) KeyOf(string module)
    {
        var (parent, name) = (TensorNames.ModuleOf(module), module[(module.LastIndexOf('.') + 1)..]);
        var set = Array.Find(Sets, s => s.Contains(name));
        return set is null ? (module, 0) : ($"{parent}.{set[0]}+", Array.IndexOf(set, name));
    }

    private bool Fits(List<Layer> members, int rows)
    {
        var parts = members.Where(m => m.Experts.Count == 0 || !Outputs.Contains(m.Module[(m.Module.LastIndexOf('.') + 1)..]))
            .SelectMany(PartsOf).ToList();
        return (members[0].Experts.Count > 0 ? parts : parts.SkipLast(1)).All(p => p % rows == 0);
    }

    // The rows of the matrices that lie in one on disk. What vLLM regroups by heads has no rows that a block may keep.
    private IEnumerable<long> PartsOf(Layer layer)
    {
        if (layer.Fused is { } fused)
        {
            return fused.Parts.Select(_ => fused.Rows);
        }

        var rows = layer.Tensor.Shape[0];
        switch (layer.Module[(layer.Module.LastIndexOf('.') + 1)..])
        {
            case "query_key_value":
                return [1, 1];
            case "gate_up_proj" or "in_proj_ba" or "input_linear":
                return [rows / 2, rows / 2];
            case "qkv_proj" or "qkv" or "Wqkv" or "W_pack" or "c_attn":
                return config.QueryKeyValue is var parts && parts.Sum() == rows
                    ? parts.Select(p => p!.Value) : [rows / 3, rows / 3, rows / 3];
            default:
                return [rows];
        }
    }
}
