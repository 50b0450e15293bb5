namespace UnslothMerge.Tests.Models;

public sealed class TensorNamesTests
{
    [Theory]
    [InlineData("model.layers.3.mlp.up_proj.weight", 3, "mlp.up_proj")]
    [InlineData("model.layers.31.self_attn.q_proj.bias", 31, "self_attn.q_proj")]
    [InlineData("transformer.h.11.attn.c_attn.weight", 11, "attn.c_attn")]
    [InlineData("h.0.ln_1.weight", 0, "ln_1")]
    [InlineData("visual.blocks.5.attn.qkv.weight", 5, "attn.qkv")]
    [InlineData("encoder.block.2.layer.0.SelfAttention.q.weight", 2, "layer.0.SelfAttention.q")]
    [InlineData("bert.encoder.layer.7.output.dense.weight", 7, "output.dense")]
    [InlineData("model.layers.1.mlp.experts.60.down_proj.weight", 1, "mlp.experts.60.down_proj")]
    [InlineData("model.embed_tokens.weight", null, "model.embed_tokens")]
    [InlineData("lm_head.weight", null, "lm_head")]
    [InlineData("model.mylayers.3.x.weight", null, "model.mylayers.3.x")]
    [InlineData("weight", null, "")]
    public void A_name_tells_its_layer_and_module(string name, int? layer, string module) =>
        Assert.Equal((layer, module), (TensorNames.Layer(name), TensorNames.Module(name)));

    [Theory]
    [InlineData("model.layers.0.mlp.up_proj.weight", "text")]
    [InlineData("model.language_model.layers.0.mlp.up_proj.weight", "text")]
    [InlineData("model.visual.blocks.0.attn.qkv.weight", "vision")]
    [InlineData("vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight", "vision")]
    [InlineData("model.audio_tower.layers.0.fc1.weight", "audio")]
    [InlineData("model.multi_modal_projector.linear_1.weight", "projector")]
    [InlineData("model.connector.modality_projection.proj.weight", "projector")]
    [InlineData("model.supervision.weight", "text")]
    public void A_name_tells_its_component(string name, string component) => Assert.Equal(component, TensorNames.Component(name));

    [Theory]
    [InlineData("model.embed_tokens.weight", true, false)]
    [InlineData("wte.weight", true, false)]
    [InlineData("bert.embeddings.word_embeddings.weight", true, false)]
    [InlineData("shared.weight", true, false)]
    [InlineData("lm_head.weight", false, true)]
    [InlineData("embed_out.weight", false, true)]
    [InlineData("lm_head.bias", false, false)]
    [InlineData("model.my_embed_tokens.weight", false, false)]
    [InlineData("model.embed_tokens.extra.weight", false, false)]
    [InlineData("weight", false, false)]
    public void Embedding_and_head_are_known(string name, bool embedding, bool head) =>
        Assert.Equal((embedding, head), (TensorNames.IsInputEmbedding(name), TensorNames.IsOutputHead(name)));
}
