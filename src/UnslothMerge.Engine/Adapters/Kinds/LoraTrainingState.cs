namespace UnslothMerge.Adapters.Kinds;

/// <summary>What the variants MonteCLoRA and VeLoRA store beside the factors: it shapes the training, not the trained model. Source: PEFT
/// 0.21, <c>lora.monteclora</c>, <c>lora.velora</c>.</summary>
internal sealed class LoraTrainingState() : AdapterKind("LoRA", "LORA",
[
    "lora_velora_embed",
    "lora_monteclora_sampler.expert_weights",
    "lora_monteclora_sampler.expert_weights_prior",
    "lora_monteclora_sampler.gaussian_var_prior",
    "lora_monteclora_sampler.std_prior",
])
{
    protected override ModuleChanges Changes(AdaptedModule module) => new() { NotNeeded = [.. module.Tensors.Values] };
}
