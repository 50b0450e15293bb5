using System.Buffers.Binary;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Formats.Quantized;

/// <summary>Widens the codes of a row to fp32, before scales are applied.</summary>
/// <param name="row">The whole stored row.</param>
/// <param name="column">The first column.</param>
/// <param name="values">Receives as many values as it is long.</param>
internal delegate void CodeDecoder(ReadOnlySpan<byte> row, int column, Span<float> values);

/// <summary>The codes that quantized weights are made of. Sources: OCP 8-bit floating point 1.0; OCP microscaling formats 1.0; compressed-tensors 0.20.</summary>
internal static class Codes
{
    private static readonly float[] E4M3 = Eight(exponentBits: 4, bias: 7, hasInfinity: false);
    private static readonly float[] E5M2 = Eight(exponentBits: 5, bias: 15, hasInfinity: true);

    /// <summary>FP4 E2M1: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives.</summary>
    public static ReadOnlySpan<float> E2M1 => [0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0f, -0.5f, -1, -1.5f, -2, -3, -4, -6];

    /// <summary>E8M0, a power of two: 2^(b − 127); FF is NaN.</summary>
    public static float PowerOfTwo(byte exponent) => exponent == 0xFF ? float.NaN : MathF.ScaleB(1, exponent - 127);

    /// <summary>The decoder of a dtype that holds one code per element.</summary>
    public static CodeDecoder? Of(TensorType type) => type switch
    {
        TensorType.F8_E4M3 => (row, column, values) => LookUp(E4M3, row[column..], values),
        TensorType.F8_E5M2 => (row, column, values) => LookUp(E5M2, row[column..], values),
        TensorType.I8 => (row, column, values) =>
        {
            for (var i = 0; i < values.Length; i++)
            {
                values[i] = (sbyte)row[column + i];
            }
        },
        _ => null,
    };

    /// <summary>FP4 codes, two to a byte, low nibble first.</summary>
    public static void FourBitFloats(ReadOnlySpan<byte> row, int column, Span<float> values)
    {
        var table = E2M1;
        for (var i = 0; i < values.Length; i++, column++)
        {
            values[i] = table[(row[column >> 1] >> ((column & 1) << 2)) & 15];
        }
    }

    /// <summary>Integers of <paramref name="bits"/> bits, packed without gaps, least significant first; stored with 2^(bits − 1) added.</summary>
    public static CodeDecoder PackedIntegers(int bits) => (row, column, values) =>
    {
        var offset = 1 << (bits - 1);
        for (var i = 0; i < values.Length; i++, column++)
        {
            values[i] = Field(row, (long)column * bits, bits) - offset;
        }
    };

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

    private static void LookUp(float[] table, ReadOnlySpan<byte> codes, Span<float> values)
    {
        codes = codes[..values.Length];
        for (var i = 0; i < codes.Length; i++)
        {
            values[i] = table[codes[i]];
        }
    }

    private static float[] Eight(int exponentBits, int bias, bool hasInfinity)
    {
        var mantissaBits = 7 - exponentBits;
        var table = new float[256];
        for (var code = 0; code < 256; code++)
        {
            var exponent = (code & 0x7F) >> mantissaBits;
            var mantissa = code & ((1 << mantissaBits) - 1);
            var top = (1 << exponentBits) - 1;
            var magnitude = exponent == top && hasInfinity ? (mantissa == 0 ? float.PositiveInfinity : float.NaN)
                : (code & 0x7F) == 0x7F && !hasInfinity ? float.NaN
                : exponent == 0 ? MathF.ScaleB(mantissa, 1 - bias - mantissaBits)
                : MathF.ScaleB(mantissa + (1 << mantissaBits), exponent - bias - mantissaBits);
            table[code] = (code & 0x80) == 0 ? magnitude : -magnitude;
        }

        return table;
    }
}
