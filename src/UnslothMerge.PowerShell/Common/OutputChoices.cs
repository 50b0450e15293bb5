using System.ComponentModel;

namespace UnslothMerge.PowerShell.Common;

/// <summary>The dtypes of an output, by the names of PyTorch and of safetensors.</summary>
internal enum OutputDType
{
    [Description("The dtypes of a 16-bit model; a float32 model becomes bfloat16")]
    auto,

    [Description("16 bits with the range of float32: what most models are trained in")]
    bfloat16,

    [Description("16 bits, at most 65504; for GPUs without bfloat16")]
    float16,

    [Description("32 bits: twice the size, no rounding")]
    float32,

    [Description("bfloat16, as safetensors calls it")]
    BF16,

    [Description("float16, as safetensors calls it")]
    F16,

    [Description("float32, as safetensors calls it")]
    F32,
}

/// <summary>The dtypes that readers of a 4-bit output may compute in.</summary>
internal enum ComputeDType
{
    [Description("As most models are trained")]
    bfloat16,

    [Description("For GPUs without bfloat16")]
    float16,

    [Description("Slow, and exact")]
    float32,

    [Description("bfloat16, as safetensors calls it")]
    BF16,

    [Description("float16, as safetensors calls it")]
    F16,

    [Description("float32, as safetensors calls it")]
    F32,
}

/// <summary>What shares an FP8 scale.</summary>
internal enum Fp8Scales
{
    [Description("Blocks of 128 × 128, as DeepSeek and transformers store them")]
    block,

    [Description("Each output channel, as compressed-tensors stores them")]
    channel,
}

/// <summary>The code books of a 4-bit output.</summary>
internal enum QuantType
{
    [Description("NormalFloat: codes where normally distributed weights lie; the default of QLoRA")]
    nf4,

    [Description("A 4-bit floating-point number")]
    fp4,
}
