using UnslothMerge.Planning;
using UnslothMerge.Safetensors;

namespace UnslothMerge.PowerShell.Common;

/// <summary>Reads the parameters that shape the output; commands that have them share these rules.</summary>
internal static class OutputOptions
{
    /// <summary>The default largest shard, Unsloth's and the Hub's.</summary>
    public const string DefaultMaxShardSize = "5GB";

    /// <summary>Every spelling of -DType.</summary>
    public const string Auto = "auto";

    /// <summary>Reads -DType and -MaxShardSize.</summary>
    /// <exception cref="MergeException">One of them cannot be read.</exception>
    public static WriteOptions Read(string dtype, string maxShardSize)
    {
        var type = dtype.Equals(Auto, StringComparison.OrdinalIgnoreCase) ? null
            : TensorTypes.FromTorchName(dtype) is { } t && t != TensorType.F64 ? (TensorType?)t
            : throw Bad("DType", $"The dtype '{dtype}' cannot be written.", "Use auto, bfloat16, float16 or float32.");
        return ByteSize.TryParse(maxShardSize, out var bytes) && bytes > 0
            ? new WriteOptions(type, bytes)
            : throw Bad("MaxShardSize", $"'{maxShardSize}' is not a size of a shard.", "Write it as 5GB, 500MB or 4GiB; digits alone are bytes.");
    }

    /// <summary>Reads the parameters of a 4-bit output.</summary>
    /// <exception cref="MergeException">The method is another one, or a value cannot be used.</exception>
    public static FourBitRequest? ReadFourBit(SaveMethod method, string? quantType, bool? doubleQuantization, int? blockSize, string? computeType)
    {
        if (method != SaveMethod.merged_4bit)
        {
            return quantType is null && doubleQuantization is null && blockSize is null && computeType is null
                ? null
                : throw Bad("Method", $"-QuantType, -DoubleQuantization, -BlockSize and -ComputeDType belong to a 4-bit output, but the method is {method}.", "Use -Method merged_4bit, or leave them out.");
        }

        if (blockSize is { } size && (size is < 32 or > 4096 || !System.Numerics.BitOperations.IsPow2(size)))
        {
            throw Bad("BlockSize", $"A block cannot have {size} elements.", "Use a power of two from 32 to 4096.");
        }

        return new FourBitRequest(quantType?.ToLowerInvariant(), doubleQuantization, blockSize, computeType is null ? null : TensorTypes.FromTorchName(computeType));
    }

    /// <summary>Reads -MaximumMemoryUsage.</summary>
    /// <exception cref="MergeException">It cannot be read.</exception>
    public static MemoryLimit ReadLimit(string text) =>
        MemoryLimit.TryParse(text, out var limit)
            ? limit
            : throw Bad("MaximumMemoryUsage", $"'{text}' is not an amount of memory.", "Give a fraction of the free memory (0 < x ≤ 0.95, such as 0.75) or a size (such as 2GB).");

    private static MergeException Bad(string parameter, string message, string advice) => new(MergeError.InvalidOption, message, parameter, advice);
}
