namespace UnslothMerge.PowerShell;

/// <summary>What is saved, in Unsloth's own spellings.</summary>
#pragma warning disable CA1707 // Unsloth's spellings
public enum SaveMethod
{
    /// <summary>The whole model with the adapters merged into its weights, in 16 (or 32) bits.</summary>
    merged_16bit,

    /// <summary>The merged model with its linear layers quantized to 4 bits, as bitsandbytes stores them. Unsloth's spelling merged_4bit_forced means the same.</summary>
    merged_4bit,

    /// <summary>The adapter by itself, with the tokenizer.</summary>
    lora,
}
#pragma warning restore CA1707
