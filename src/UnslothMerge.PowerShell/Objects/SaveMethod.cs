namespace UnslothMerge.PowerShell;

/// <summary>What is saved, by Unsloth's names.</summary>
#pragma warning disable CA1707 // Unsloth's spellings
public enum SaveMethod
{
    /// <summary>The merged model in 16 or 32 bits.</summary>
    merged_16bit,

    /// <summary>The merged model, each tensor in the format of the base, quantized with the parameters of the base.</summary>
    merged,

    /// <summary>The merged model with its linear layers in FP8 (E4M3).</summary>
    merged_fp8,

    /// <summary>The merged model of an MXFP4 base, with its experts in MXFP4.</summary>
    merged_mxfp4,

    /// <summary>The merged model with its linear layers in 4 bits, as bitsandbytes stores them; vLLM 0.28 and later needs the plug-in
    /// vllm-bnb-plugin. Also merged_4bit_forced.</summary>
    merged_4bit,

    /// <summary>The adapter, with the tokenizer.</summary>
    lora,
}
#pragma warning restore CA1707
