using static TorchSharp.torch;

namespace UnslothMerge.Torch;

/// <summary>The dtypes of TorchSharp.</summary>
internal static class Types
{
    public static ScalarType Of(TensorType type) => type switch
    {
        TensorType.F16 => ScalarType.Float16,
        TensorType.BF16 => ScalarType.BFloat16,
        TensorType.F32 => ScalarType.Float32,
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "Devices compute with F16, BF16 and F32 only."),
    };
}
