namespace UnslothMerge.Tests.Models;

public sealed class LayerTypesTests
{
    [Theory]
    [InlineData("""{ "model_type": "gpt2" }""", "transformer.h.3.attn.c_proj", false, true)]
    [InlineData("""{ "model_type": "gpt2" }""", "transformer.h.3.crossattention.q_attn", false, true)]
    [InlineData("""{ "model_type": "gpt2" }""", "score", true, false)]
    [InlineData("""{ "model_type": "llama" }""", "model.layers.0.self_attn.q_proj", true, false)]
    [InlineData("""{ "model_type": "starcoder2" }""", "model.layers.0.mlp.c_proj", true, false)]
    [InlineData("""{ "model_type": "vision-encoder-decoder", "decoder": { "model_type": "gpt2" } }""", "decoder.transformer.h.0.mlp.c_fc",
        false, true)]
    [InlineData("""{ "model_type": "custom" }""", "conv1d", true, true)]
    [InlineData("""{ "model_type": "custom" }""", "lin0", false, false)]
    [InlineData("""{ "model_type": "custom" }""", "without_bias", true, false)]
    [InlineData("""{ "model_type": "jais", "auto_map": { "AutoModel": "modeling.Jais" } }""", "transformer.h.0.attn.c_proj", true, true)]
    public void ASquareWeightIsWhatItsArchitectureSays(string config, string module, bool fanInFanOut, bool transposed) =>
        Assert.Equal(transposed ? LayerType.TransposedLinear : LayerType.Linear,
            Of(config, module, [8, 8], module == "without_bias" ? null : 8, 8, 8, fanInFanOut));

    [Fact]
    public void TheShapeDecidesOnlyWhereTheArchitectureIsUnknown()
    {
        Assert.Equal(LayerType.TransposedLinear, Of("""{ "model_type": "custom" }""", "conv1d", [5, 1], null, 1, 5, false));
        Assert.Equal(LayerType.Linear, Of("""{ "model_type": "custom" }""", "lin0", [1, 5], null, 1, 5, true));
        Assert.Equal(LayerType.Linear, Of("""{ "model_type": "llama" }""", "model.layers.0.mlp.up_proj", [5, 1], null, 1, 5, true));
        Assert.Equal(LayerType.TransposedLinear, Of("""{ "model_type": "custom" }""", "conv1d", [5, 1], 1, null, null, false));
        Assert.Equal(LayerType.TransposedLinear, Of("""{ "model_type": "custom" }""", "conv1d", [5, 1], 1, null, 5, false));
        Assert.Equal(LayerType.Linear, Of("""{ "model_type": "custom" }""", "lin0", [5, 1], null, null, 5, false));
        Assert.Equal(LayerType.Convolution, Of("""{ "model_type": "gpt2" }""", "h.0.attn.c_attn", [5, 1, 3], null, 5, 1, true));
    }

    private static LayerType Of(string config, string module, long[] shape, long? bias, long? outputs, long? inputs, bool fanInFanOut) =>
        new LayerTypes(new ModelConfig(JsonNode.Parse(config)!.AsObject())).Of(module, shape, bias, outputs, inputs, fanInFanOut);
}
