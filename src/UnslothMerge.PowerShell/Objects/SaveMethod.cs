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

    /// <summary>The merged model of gpt-oss in MXFP4, with its experts in the base's own blocks; mxfp4 is another format.</summary>
    merged_mxfp4,

    /// <summary>The merged model with its linear layers in 4 bits, as bitsandbytes stores them; vLLM 0.28 and later needs the plug-in
    /// vllm-bnb-plugin. Also merged_4bit_forced.</summary>
    merged_4bit,

    /// <summary>Linear layers in FP8 with a scale a row, as vLLM serves them; activations are quantized dynamically. Also fp8_dynamic,
    /// dynamic_fp8, w8a8_fp8.</summary>
    fp8,

    /// <summary>Linear layers in FP8 with a scale for each block of 128 × 128. Also block_fp8.</summary>
    fp8_block,

    /// <summary>Linear layers in INT8 with a scale a row, and dynamic activations. Also w8a8, w8a8_int8.</summary>
    int8,

    /// <summary>Linear layers in 8-bit integers in groups; activations stay in 16 bits. Also int8_weight.</summary>
    w8a16,

    /// <summary>Linear layers in 4-bit integers in groups; activations stay in 16 bits. Also int4, int4_weight.</summary>
    w4a16,

    /// <summary>The same with zero points, as w4a16 with -Asymmetric.</summary>
    w4a16_asym,

    /// <summary>Linear layers in MXFP8: FP8 in groups of 32 with powers of two.</summary>
    mxfp8,

    /// <summary>Linear layers in MXFP4 as compressed-tensors stores them, with dynamic activations. gpt-oss's own blocks are
    /// merged_mxfp4.</summary>
    mxfp4,

    /// <summary>Linear layers in MXFP4; activations stay in 16 bits.</summary>
    mxfp4a16,

    /// <summary>Linear layers in NVFP4: FP4 in groups of 16; activations stay in 16 bits.</summary>
    nvfp4a16,

    /// <summary>The adapter, with the tokenizer.</summary>
    lora,
}
#pragma warning restore CA1707
