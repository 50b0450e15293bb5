namespace UnslothMerge.PowerShell;

/// <summary>What is saved, in Unsloth's own spellings.</summary>
#pragma warning disable CA1707 // Unsloth's spellings
public enum SaveMethod
{
    /// <summary>The whole model with the adapters merged into its weights, in 16 (or 32) bits.</summary>
    merged_16bit,

    /// <summary>The whole model with every tensor in the format that the base has it in: quantized ones are quantized again with the base's own parameters.</summary>
    merged,

    /// <summary>The merged model with its linear layers in FP8 (E4M3).</summary>
    merged_fp8,

    /// <summary>The merged model of an MXFP4 base, its experts in MXFP4 again.</summary>
    merged_mxfp4,

    /// <summary>The merged model with its linear layers quantized to 4 bits, as bitsandbytes stores them. Unsloth's spelling merged_4bit_forced means the same.</summary>
    merged_4bit,

    /// <summary>The adapter by itself, with the tokenizer.</summary>
    lora,
}
#pragma warning restore CA1707
