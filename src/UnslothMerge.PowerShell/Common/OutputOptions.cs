using UnslothMerge.Devices;
using UnslothMerge.Formats.BitsAndBytes;

namespace UnslothMerge.PowerShell.Common;

/// <summary>What the parameters of an <see cref="OutputCommand"/> say, read once, before a model is. The temporary location
/// exists.</summary>
internal sealed record OutputOptions(WriteOptions Write, MemoryAmount Memory, DeviceRequest Device, string TemporaryLocation)
{
    /// <summary>The default largest shard, Unsloth's and the Hub's.</summary>
    public const string DefaultMaxShardSize = "5GB";

    /// <summary>The size of a shard that keeps those of the base.</summary>
    public const string BaseShards = "base";

    /// <summary>The dtype that leaves it to the model.</summary>
    public const string Auto = "auto";

    /// <summary>Reads the parameters, and refuses those that have no effect beside the others. -DoubleQuantization is null if it is not
    /// given.</summary>
    public static OutputOptions Parse(OutputCommand command, bool? doubleQuantization, string temporary)
    {
        var type = command.DType.Equals(Auto, StringComparison.OrdinalIgnoreCase) ? (TensorType?)null
            : TensorTypes.FromTorchName(command.DType) is { } t && t != TensorType.F64 ? t
            : throw Bad(
                nameof(command.DType), $"The dtype '{command.DType}' cannot be written.", "Use auto, bfloat16, float16 or float32.");
        var keepsShards = command.MaxShardSize.Equals(BaseShards, StringComparison.OrdinalIgnoreCase);
        var shard = 0L;
        if (!keepsShards && (!ByteSize.TryParse(command.MaxShardSize, out shard) || shard <= 0))
        {
            throw Bad(
                nameof(command.MaxShardSize), $"'{command.MaxShardSize}' is not a size of a shard.",
                $"Write it as 5GB, 500MB or 4GiB; digits alone are bytes; '{BaseShards}' keeps the base's shards.");
        }

        if (!Directory.Exists(temporary))
        {
            throw new MergeException(
                MergeError.PathNotFound, $"The temporary location '{command.TemporaryLocation}' is not a directory.",
                nameof(command.TemporaryLocation), "Choose a -TemporaryLocation that exists.");
        }

        var write = new WriteOptions(type, keepsShards ? null : shard) { Quantization = Format(command, type, doubleQuantization) };
        return new OutputOptions(write, MemoryAmount.Parse(command.MaximumMemoryUsage), DeviceRequest.Parse(command.Device), temporary);
    }

    private static OutputRequest? Format(OutputCommand command, TensorType? type, bool? doubleQuantization)
    {
        ExportMethods.Require(command.Method);
        var method = Enum.Parse<SaveMethod>(command.Method);
        var isExport = ExportMethods.Find(method.ToString()) is not null;
        if (!isExport && (command.GroupSize is not null || command.Asymmetric))
        {
            var parameter = command.GroupSize is null ? nameof(command.Asymmetric) : nameof(command.GroupSize);
            throw Bad(parameter, $"-{parameter} belongs to w4a16, but the method is {method}.", "Use -Method w4a16, or leave it out.");
        }

        if (method != SaveMethod.merged_4bit
            && ((command.QuantType ?? command.ComputeDType) is not null || doubleQuantization is not null || command.BlockSize is not null))
        {
            throw Bad(
                nameof(command.Method),
                $"-QuantType, -DoubleQuantization, -BlockSize and -ComputeDType belong to a 4-bit output, but the method is {method}.",
                "Use -Method merged_4bit, or leave them out.");
        }

        if (method != SaveMethod.merged_fp8 && command.Strategy is not null)
        {
            throw Bad(
                nameof(command.Method), $"-Strategy belongs to an FP8 output, but the method is {method}.",
                "Use -Method merged_fp8, or leave it out.");
        }

        if (!isExport && method is not (SaveMethod.merged_4bit or SaveMethod.merged_fp8)
            && command.Include.Length + command.Exclude.Length > 0)
        {
            throw Bad(
                nameof(command.Method), $"-Include and -Exclude belong to a quantized output, but the method is {method}.",
                "Use a method that quantizes, such as merged_4bit or fp8, or leave them out.");
        }

        if (method is SaveMethod.merged or SaveMethod.merged_mxfp4 && type is not null)
        {
            throw Bad(
                nameof(command.DType), $"The method {method} keeps the dtype and format of every tensor, so -DType would have no effect.",
                "Leave -DType out, or use merged_16bit.");
        }

        if ((isExport || method == SaveMethod.merged_4bit) && type == TensorType.F32)
        {
            throw Bad(
                nameof(command.DType), $"The weights of {method} decode to 16 bits, not to float32.", "Use bfloat16 or float16.");
        }

        if (command.BlockSize is { } size && (size is < 32 or > 4096 || !System.Numerics.BitOperations.IsPow2(size)))
        {
            throw Bad(nameof(command.BlockSize), $"A block cannot have {size} elements.", "Use a power of two from 32 to 4096.");
        }

        OutputRequest? request = method switch
        {
            SaveMethod.merged => new BaseFormatRequest(),
            SaveMethod.merged_mxfp4 => new BaseFormatRequest("MXFP4"),
            SaveMethod.merged_fp8 =>
                new Fp8Request(command.Strategy is { } strategy ? Enum.Parse<Fp8Strategy>(strategy, ignoreCase: true) : null),
            SaveMethod.merged_4bit => new FourBitRequest(
                command.QuantType is { } codes ? FourBitCodes.Of(codes.ToLowerInvariant()) : null,
                doubleQuantization,
                command.BlockSize,
                TensorTypes.FromTorchName(command.ComputeDType)),
            _ when isExport => ExportMethods.Parse(method.ToString(), command.GroupSize, command.Asymmetric),
            _ => null,
        };
        return request is null ? null : request with { Include = command.Include, Exclude = command.Exclude };
    }

    private static MergeException Bad(string parameter, string message, string advice) =>
        new(MergeError.InvalidOption, message, parameter, advice);
}
