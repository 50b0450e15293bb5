namespace UnslothMerge.Adapters.Kinds;

/// <summary>
/// What the variants MonteCLoRA and VeLoRA store beside the factors: it shapes the training, not the trained model.
/// Source: PEFT 0.21, <c>lora.monteclora</c>, <c>lora.velora</c>.
/// </summary>
public sealed class LoraTrainingState : AdapterKind
{
    /// <inheritdoc/>
    public override string Name => "LoRA";

    /// <inheritdoc/>
    public override string PeftType => "LORA";

    /// <inheritdoc/>
    public override IReadOnlyList<string> Parts { get; } =
    [
        "lora_velora_embed",
        "lora_monteclora_sampler.expert_weights",
        "lora_monteclora_sampler.expert_weights_prior",
        "lora_monteclora_sampler.gaussian_var_prior",
        "lora_monteclora_sampler.std_prior",
    ];

    /// <inheritdoc/>
    public override bool Bind(ModuleAdapter module, IAdapterTarget target)
    {
        foreach (var tensor in module.Tensors.Values)
        {
            target.Ignore(tensor, module.Module, Name);
        }

        return true;
    }
}
