namespace UnslothMerge.Models;

/// <summary>What a module is, as far as the layout of its weight is concerned.</summary>
internal enum LayerType
{
    /// <summary>torch's Linear: the weight is [out, in].</summary>
    Linear,

    /// <summary>transformers' Conv1D, a Linear in spite of its name: the weight is [in, out].</summary>
    TransposedLinear,

    /// <summary>A convolution over one, two or three dimensions: the weight is [out, in, …].</summary>
    Convolution,
}

/// <summary>
/// Says how a module stores its weight. The architecture decides; where it is not known, the shapes do, and for a square weight with a
/// bias the adapter's <c>fan_in_fan_out</c>, which is what the last adapted module left there. Source: transformers 5,
/// <c>pytorch_utils.Conv1D</c> and the models that use it.
/// </summary>
internal sealed class LayerTypes
{
    // The architectures of transformers with Conv1D layers, and those layers' names.
    private static readonly (string ModelType, Regex Modules)[] Conv1DModels =
    [
        ("gpt2", Names(@"(attn|crossattention)\.(c_attn|q_attn|c_proj)|mlp\.(c_fc|c_proj)")), // GPT2Attention, GPT2MLP
        ("openai-gpt", Names(@"attn\.(c_attn|c_proj)|mlp\.(c_fc|c_proj)")), // openai: Attention, MLP
        ("imagegpt", Names(@"(attn|crossattention)\.(c_attn|q_attn|c_proj)|mlp\.(c_fc|c_proj)")), // ImageGPTAttention, ImageGPTMLP
        // DecisionTransformerGPT2Attention, …MLP
        ("decision_transformer", Names(@"(attn|crossattention)\.(c_attn|q_attn|c_proj)|mlp\.(c_fc|c_proj)")),
        ("clvp_decoder", Names(@"mlp\.(c_fc|c_proj)")), // ClvpDecoderMLP
    ];

    private readonly List<Regex> _conv1D;
    private readonly bool _known;

    /// <summary>Looks the model up.</summary>
    public LayerTypes(ModelConfig config)
    {
        _conv1D = [.. Conv1DModels.Where(m => config.ModelTypes.Contains(m.ModelType)).Select(m => m.Modules)];
        _known = _conv1D.Count > 0 || config.IsOfTransformers;
    }

    /// <summary>The type of a module that has a weight of two or more dimensions and is no embedding; outputs and inputs are known as far
    /// as the adapter's tensors tell. Conv1D always has a bias. Whether an adapter's delta fits a layer of that type is not
    /// checked.</summary>
    public LayerType Of(string module, IReadOnlyList<long> weight, long? bias, long? outputs, long? inputs, bool fanInFanOut)
    {
        if (weight.Count > 2)
        {
            return LayerType.Convolution;
        }

        var transposed = _known
            ? _conv1D.Any(r => r.IsMatch(module)) : LooksTransposed(weight[0], weight[1], bias, outputs, inputs, fanInFanOut);
        return transposed ? LayerType.TransposedLinear : LayerType.Linear;
    }

    private static bool LooksTransposed(long rows, long columns, long? bias, long? outputs, long? inputs, bool fanInFanOut)
    {
        var natural = Fits(outputs, rows) && Fits(inputs, columns);
        var turned = Fits(outputs, columns) && Fits(inputs, rows);
        return turned
            && (bias == columns ? !natural || rows != columns || fanInFanOut : !natural && outputs is not null && inputs is not null);
    }

    private static bool Fits(long? expected, long actual) => expected is null || expected == actual;

    private static Regex Names(string alternatives) =>
        new($@"(^|\.)({alternatives})$", RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant);
}
