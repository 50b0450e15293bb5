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

    /// <summary>Reads -Method and the parameters that belong to one method only.</summary>
    /// <exception cref="MergeException">They belong to another method, or a value cannot be used.</exception>
    public static OutputRequest? ReadMethod(SaveMethod method, string dtype, string? strategy, string? quantType, bool? doubleQuantization, int? blockSize, string? computeType)
    {
        if (method != SaveMethod.merged_4bit && (quantType is not null || doubleQuantization is not null || blockSize is not null || computeType is not null))
        {
            throw Bad("Method", $"-QuantType, -DoubleQuantization, -BlockSize and -ComputeDType belong to a 4-bit output, but the method is {method}.", "Use -Method merged_4bit, or leave them out.");
        }

        if (method != SaveMethod.merged_fp8 && strategy is not null)
        {
            throw Bad("Method", $"-Strategy belongs to an FP8 output, but the method is {method}.", "Use -Method merged_fp8, or leave it out.");
        }

        var keepsTypes = method is SaveMethod.merged or SaveMethod.merged_mxfp4;
        if (keepsTypes && !dtype.Equals(Auto, StringComparison.OrdinalIgnoreCase))
        {
            throw Bad("DType", $"The method {method} keeps the dtype and format of every tensor, so -DType would have no effect.", "Leave -DType out, or use merged_16bit.");
        }

        if (method == SaveMethod.merged_4bit && TensorTypes.FromTorchName(dtype) == TensorType.F32)
        {
            throw Bad("DType", "4-bit weights decode to 16 bits, not to float32.", "Use bfloat16 or float16.");
        }

        return method switch
        {
            SaveMethod.merged => new BaseFormatRequest(),
            SaveMethod.merged_mxfp4 => new BaseFormatRequest("MXFP4"),
            SaveMethod.merged_fp8 => new Fp8Request(strategy is null ? null : Enum.Parse<Fp8Strategy>(strategy, ignoreCase: true)),
            SaveMethod.merged_4bit => ReadFourBit(quantType, doubleQuantization, blockSize, computeType),
            _ => null,
        };
    }

    private static FourBitRequest ReadFourBit(string? quantType, bool? doubleQuantization, int? blockSize, string? computeType)
    {
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
