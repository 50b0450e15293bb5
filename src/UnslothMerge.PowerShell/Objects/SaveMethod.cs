using System.ComponentModel;

namespace UnslothMerge.PowerShell;

/// <summary>What is saved, by Unsloth's names.</summary>
#pragma warning disable CA1707 // Unsloth's spellings
public enum SaveMethod
{
    [Description("The merged model in 16 or 32 bits.")]
    merged_16bit,

    [Description("The merged model, each tensor in the format of the base, quantized with the parameters of the base.")]
    merged,

    [Description("The merged model with its linear layers in FP8 (E4M3).")]
    merged_fp8,

    [Description(
        "The merged model of gpt-oss in MXFP4, with its experts in the base's own blocks; mxfp4 is another "
        + "format.")]
    merged_mxfp4,

    [Description(
        "The merged model with its linear layers in 4 bits, as bitsandbytes stores them; vLLM 0.28 and later "
        + "needs the plug-in vllm-bnb-plugin. Also merged_4bit_forced.")]
    merged_4bit,

    [Description(
        "Linear layers in FP8 with a scale a row, as vLLM serves them; activations are quantized dynamically. "
        + "Also fp8_dynamic, dynamic_fp8, w8a8_fp8.")]
    fp8,

    [Description("Linear layers in FP8 with a scale for each block of 128 × 128. Also block_fp8.")]
    fp8_block,

    [Description("Linear layers in INT8 with a scale a row, and dynamic activations. Also w8a8, w8a8_int8.")]
    int8,

    [Description("Linear layers in 8-bit integers in groups; activations stay in 16 bits. Also int8_weight.")]
    w8a16,

    [Description("Linear layers in 4-bit integers in groups; activations stay in 16 bits. Also int4, int4_weight.")]
    w4a16,

    [Description("The same with zero points, as w4a16 with -Asymmetric.")]
    w4a16_asym,

    [Description("Linear layers in MXFP8: FP8 in groups of 32 with powers of two.")]
    mxfp8,

    [Description(
        "Linear layers in MXFP4 as compressed-tensors stores them, with dynamic activations. gpt-oss's own "
        + "blocks are merged_mxfp4.")]
    mxfp4,

    [Description("Linear layers in MXFP4; activations stay in 16 bits.")]
    mxfp4a16,

    [Description("Linear layers in NVFP4: FP4 in groups of 16; activations stay in 16 bits.")]
    nvfp4a16,

    [Description("The adapter, with the tokenizer.")]
    lora,
}
#pragma warning restore CA1707
