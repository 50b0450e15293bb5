namespace UnslothMerge.Tests.Adapters;

public sealed class AdapterNamesTests
{
    [Theory]
    [InlineData("base_model.model.m.experts.lora_A.weight", "m.experts", "lora_A.weight", 0)]
    [InlineData("base_model.model.m.experts.base_layer.lora_A.weight", "m.experts", "lora_A.weight", 1)]
    [InlineData("base_model.model.m.experts.base_layer.base_layer.lora_B.default.weight", "m.experts", "lora_B.weight", 2)]
    [InlineData("base_model.model.m.experts.base_layer.0.up_proj.lora_A.weight", "m.experts.0.up_proj", "lora_A.weight", 0)]
    [InlineData("base_model.model.m.experts.base_layer.base_layer.gate_up_proj", "m.experts", "gate_up_proj", 0)]
    [InlineData("base_model.model.lm_head.base_layer.weight", "lm_head", "weight", 0)]
    public void Wrappers_are_taken_off_and_counted(string name, string module, string part, int depth) =>
        Assert.Equal(new AdapterName(module, part, depth), AdapterNames.Parse(name));

    [Theory]
    [InlineData("base_model.model.model.layers.0.mlp.up_proj.lora_A.weight", "model.layers.0.mlp.up_proj", "lora_A.weight")]
    [InlineData("base_model.model.lm_head.lora_B.bias", "lm_head", "lora_B.bias")]
    [InlineData("base_model.model.wte.lora_embedding_A", "wte", "lora_embedding_A")]

    // Raw dumps: the adapter's name is left in, and no prefix may be there.
    [InlineData("base_model.model.q.lora_A.default.weight", "q", "lora_A.weight")]
    [InlineData("base_model.model.q.lora_B.my-adapter_2.bias", "q", "lora_B.bias")]
    [InlineData("base_model.model.wte.lora_embedding_A.default", "wte", "lora_embedding_A")]
    [InlineData("model.q.lora_A.weight", "model.q", "lora_A.weight")]

    // Wrappers of PEFT's.
    [InlineData("base_model.model.q.base_layer.lora_A.weight", "q", "lora_A.weight")]
    [InlineData("base_model.model.experts.base_layer.base_layer.lora_A.weight", "experts", "lora_A.weight")]
    [InlineData("base_model.model.q.base_layer.weight", "q", "weight")]

    // Modules that were trained whole.
    [InlineData("base_model.model.lm_head.weight", "lm_head", "weight")]
    [InlineData("base_model.model.lm_head.modules_to_save.default.weight", "lm_head", "weight")]
    [InlineData("base_model.model.lm_head.modules_to_save.weight", "lm_head", "weight")]
    [InlineData("base_model.model.model.norm.modules_to_save.other.bias", "model.norm", "bias")]
    [InlineData("base_model.model.logit_scale", "", "logit_scale")]

    // Not parts, only like them.
    [InlineData("base_model.model.q.lora_A.default.extra.weight", "q.lora_A.default.extra", "weight")]
    [InlineData("base_model.model.q.my_lora_A.weight", "q.my_lora_A", "weight")]
    public void A_name_is_taken_apart(string name, string module, string part)
    {
        var parsed = AdapterNames.Parse(name);
        Assert.Equal((module, part), (parsed.Module, parsed.Part));
    }

    [Theory]

    // As PEFT has them.
    [InlineData("base_model.model.q.lora_A.weight", "base_model.model.q.lora_A.weight")]
    [InlineData("base_model.model.q.base_layer.base_layer.lora_B.weight", "base_model.model.q.base_layer.base_layer.lora_B.weight")]
    [InlineData("base_model.model.wte.token_adapter.trainable_tokens_delta", "base_model.model.wte.token_adapter.trainable_tokens_delta")]
    [InlineData("base_model.model.wte.base_layer.weight", "base_model.model.wte.base_layer.weight")]
    [InlineData("base_model.model.norm.ln_tuning_layers.weight", "base_model.model.norm.ln_tuning_layers.weight")]
    [InlineData("base_model.vera_A", "base_model.vera_A")]

    // As the state dict has them, of a model that a trainer has wrapped, or without a prefix.
    [InlineData("base_model.model.q.lora_A.default.weight", "base_model.model.q.lora_A.weight")]
    [InlineData("base_model.model.wte.lora_embedding_A.sft", "base_model.model.wte.lora_embedding_A")]
    [InlineData("base_model.model.q.lora_magnitude_vector.default.weight", "base_model.model.q.lora_magnitude_vector")]
    [InlineData("base_model.model.q.lora_magnitude_vector.default", "base_model.model.q.lora_magnitude_vector")]
    [InlineData("base_model.model.wte.token_adapter.trainable_tokens_delta.default",
        "base_model.model.wte.token_adapter.trainable_tokens_delta")]
    [InlineData("base_model.model.lm_head.modules_to_save.default.weight", "base_model.model.lm_head.weight")]
    [InlineData("base_model.model.norm.ln_tuning_layers.default.weight", "base_model.model.norm.ln_tuning_layers.weight")]
    [InlineData("model.q.lora_A.weight", "base_model.model.model.q.lora_A.weight")]
    [InlineData("_orig_mod.base_model.model.q.lora_B.default.bias", "base_model.model.q.lora_B.bias")]
    [InlineData("base_model.model.model.layers.0._checkpoint_wrapped_module.q.lora_A.weight",
        "base_model.model.model.layers.0.q.lora_A.weight")]
    [InlineData("module.base_model.model.q.lora_A.default.weight", "base_model.model.q.lora_A.weight")]
    public void A_name_becomes_that_of_a_saved_adapter(string name, string saved)
    {
        Assert.Equal(saved, AdapterNames.Saved(name));
        Assert.Equal(saved, AdapterNames.Saved(saved));
        Assert.Equal(AdapterNames.Parse(name).Module, AdapterNames.Parse(saved).Module);
    }
}
