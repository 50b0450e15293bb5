namespace UnslothMerge.Tests.Models;

/// <summary>What readers take for a linear layer, by transformers' classes.</summary>
public sealed class ClassLinearsTests
{
    [Theory]
    [InlineData("LlamaForCausalLM", "model.layers.11.mlp.up_proj", "Linear")]
    [InlineData("LlamaForCausalLM", "model.embed_tokens", "Other")]
    [InlineData("T5ForConditionalGeneration", "encoder.block.0.layer.1.DenseReluDense.wi", "Linear")]
    [InlineData("T5ForConditionalGeneration", "encoder.block.0.layer.1.DenseReluDense.wo", "Fp32")]
    [InlineData("FalconForCausalLM", "transformer.h.0.self_attention.dense", "Subclass")]
    [InlineData("GPT2LMHeadModel", "transformer.h.0.attn.c_attn", "Conv1D")]
    [InlineData("MixtralForCausalLM", "model.layers.0.mlp.experts.gate_up_proj", "Experts")]
    public void A_weight_is_what_the_class_has_it_for(string @class, string module, string kind) =>
        Assert.Equal(kind, Of(@class)!.KindOf(module).ToString());

    [Fact]
    public void A_checkpoint_may_leave_out_the_prefix_of_the_model()
    {
        var bert = Of("BertForMaskedLM")!;
        Assert.Equal("bert.encoder.layer.0.output.dense", bert.FullName("encoder.layer.0.output.dense"));
        Assert.Equal("cls.predictions.decoder", bert.FullName("cls.predictions.decoder"));
        Assert.Null(bert.FullName("encoder.layer.0.output.LayerNorm"));
        Assert.Equal("cls.predictions.decoder", bert.Head);
    }

    [Fact]
    public void A_class_that_is_not_in_the_data_is_not_known() => Assert.Null(Of("TinyForCausalLM"));

    private static ClassLinears? Of(string @class) =>
        ClassLinears.Of(ModelClass.Of(new ModelConfig(new JsonObject { ["architectures"] = new JsonArray(@class) })));
}
