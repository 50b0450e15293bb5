using UnslothMerge.Simd;

namespace UnslothMerge.Formats.Quantized;

/// <summary>Reads and writes single scales.</summary>
internal static class ScaleType
{
    /// <summary>The largest number of a dtype of scales.</summary>
    public static float Largest(TensorType type) => Range(type).Largest;

    /// <summary>A positive scale rounded up to a power of two.</summary>
    public static float PowerOfTwo(float scale)
    {
        Span<byte> power = stackalloc byte[1];
        Write(scale, TensorType.F8_E8M0, power, 0);
        return Read(power, TensorType.F8_E8M0, 0);
    }

    public static float Read(ReadOnlySpan<byte> stored, TensorType type, int index)
    {
        switch (type)
        {
            case TensorType.F32:
                return MemoryMarshal.Cast<byte, float>(stored)[index];
            case TensorType.BF16:
                return BitConverter.UInt32BitsToSingle((uint)MemoryMarshal.Cast<byte, ushort>(stored)[index] << 16);
            case TensorType.U8 or TensorType.F8_E8M0:
                return PowersOfTwo.Of(stored[index]);
            default:
                var value = 0f;
                var width = type.Bits() / 8;
                ScaleGrid.Decode(stored.Slice(index * width, width), type, new Span<float>(ref value));
                return value;
        }
    }

    /// <summary>Writes one positive scale: as the nearest number of the dtype, but a power of two is rounded up, so that nothing is cut
    /// off, as gpt-oss's own quantizer does (triton_kernels, <c>downcast_to_mxfp</c>).</summary>
    public static void Write(float scale, TensorType type, Span<byte> stored, int index)
    {
        var (least, largest) = Range(type);
        var clamped = Math.Clamp(scale, least, largest);
        var width = type.Bits() / 8;
        var place = stored.Slice(index * width, width);
        var none = default(TileStatistics);
        switch (type)
        {
            case TensorType.U8 or TensorType.F8_E8M0:
                var bits = BitConverter.SingleToUInt32Bits(clamped);
                place[0] = (byte)(bits <= BitConverter.SingleToUInt32Bits(least) ? 0 : (bits + 0x007F_FFFF) >> 23);
                break;
            case TensorType.F8_E4M3:
                CodeBook.E4M3.Encode([clamped], 1, 0, place, ref none);
                break;
            default:
                PlainFormat.Round(type, [clamped], place);
                break;
        }
    }

    // The smallest positive divisor and the largest number.
    private static (float Least, float Largest) Range(TensorType type) => type switch
    {
        TensorType.U8 or TensorType.F8_E8M0 => (MathF.ScaleB(1, -127), MathF.ScaleB(1, 127)),
        TensorType.F8_E4M3 => (MathF.ScaleB(1, -9), 448),
        TensorType.F16 => (MathF.ScaleB(1, -24), 65504),
        TensorType.BF16 => (MathF.ScaleB(1, -126), BitConverter.UInt32BitsToSingle(0x7F7F_0000)),
        _ => (MathF.ScaleB(1, -126), float.MaxValue),
    };
}
