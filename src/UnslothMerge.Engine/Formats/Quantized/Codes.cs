using UnslothMerge.Simd;

namespace UnslothMerge.Formats.Quantized;

/// <summary>Decodes a segment of a row: (code − zero) · scale, in fp32. Scales and zero points (empty for none) are those of the whole row;
/// the columns of a block, a multiple of 16, share one.</summary>
internal delegate void CodeDecoder(
    ReadOnlySpan<byte> row, int column, ReadOnlySpan<float> scales, ReadOnlySpan<float> zeros, int block, Span<float> values);

/// <summary>The codes that quantized weights are made of.</summary>
internal static class Codes
{
    /// <summary>A block that no row is longer than.</summary>
    public const int WholeRow = int.MaxValue & -16;

    /// <summary>FP4 codes, two to a byte, low nibble first.</summary>
    public static CodeDecoder FourBitFloats { get; } = Decoder(default(E2M1Codes));

    /// <summary>The decoder of a dtype that holds one code per element.</summary>
    public static CodeDecoder? Of(TensorType type) => type switch
    {
        TensorType.F8_E4M3 => Decoder(default(E4M3Codes)),
        TensorType.F8_E5M2 => Decoder(default(E5M2Codes)),
        TensorType.I8 => Decoder(default(Int8Codes)),
        _ => null,
    };

    /// <summary>Integers of <paramref name="bits"/> bits, packed without gaps, least significant first; stored with 2^(bits − 1)
    /// added, or without a sign.</summary>
    public static CodeDecoder PackedIntegers(int bits, bool signed = true) => Decoder(new IntegerCodes(bits, signed));

    /// <summary>Widens plain numbers, or codes of a byte each, to fp32.</summary>
    public static void Widen(TensorType type, ReadOnlySpan<byte> stored, Span<float> values)
    {
        if (Of(type) is { } decoder)
        {
            decoder(stored, 0, [1], default, WholeRow, values);
        }
        else
        {
            PlainFormat.Decoder(type)(stored, values);
        }
    }

    /// <summary>A field of bits in a little-endian bit stream.</summary>
    public static int Field(ReadOnlySpan<byte> stream, long bit, int bits)
    {
        var first = (int)(bit >> 3);
        var window = first + sizeof(uint) <= stream.Length
            ? BinaryPrimitives.ReadUInt32LittleEndian(stream[first..])
            : Tail(stream[first..]);
        return (int)(window >> (int)(bit & 7)) & ((1 << bits) - 1);
    }

    private static uint Tail(ReadOnlySpan<byte> bytes)
    {
        var window = 0u;
        for (var i = 0; i < bytes.Length; i++)
        {
            window |= (uint)bytes[i] << (8 * i);
        }

        return window;
    }

    private static CodeDecoder Decoder<TCodes>(TCodes codes)
        where TCodes : struct, ICodes =>
        (row, column, scales, zeros, block, values) => ScaledCodes.Decode(codes, row, column, scales, zeros, block, values);
}
