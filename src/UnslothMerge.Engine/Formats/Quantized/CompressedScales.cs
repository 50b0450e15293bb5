using UnslothMerge.Simd;

namespace UnslothMerge.Formats.Quantized;

/// <summary>The scales that llm-compressor gives groups of values. Every operation is fp32 and rounded to the dtype of the values; a scale
/// is rounded to the model's 16-bit dtype once, and codes are taken against the rounded scale. Source: compressed-tensors 0.19,
/// <c>calculate_qparams</c> and <c>generate_gparam</c>.</summary>
internal static class CompressedScales
{
    private const float LargestE4M3 = 448;
    private const float LargestE2M1 = 6;

    // The bits of a code of E4M3 that stands for 0.125.
    private const byte Eighth = 0x20;

    /// <summary>Symmetric: largest magnitudes become scales of a dtype, as stored and as fp32; of zeros, the given one.</summary>
    public static void Symmetric(Span<float> scales, float highest, TensorType type, float? ofZeros, Span<byte> stored)
    {
        TensorPrimitives.Divide(scales, highest, scales);
        Store(scales, type, ofZeros, stored);
    }

    /// <summary>With zero points from -8 to 7: ranges become scales, in place of the largest values, and zero points, in place of the
    /// smallest.</summary>
    public static void Asymmetric(Span<float> lowest, Span<float> highest, TensorType values, TensorType type, Span<byte> stored)
    {
        for (var i = 0; i < lowest.Length; i++)
        {
            var distance = Round(values, highest[i] - lowest[i]);
            var scale = Round(values, distance / 15);
            scale = scale == 0 ? Epsilon(type) : scale;
            var zero = distance == 0 ? 0 : MathF.Round(Math.Clamp(Round(values, -8 - Round(values, lowest[i] / scale)), -8, 7));
            (lowest[i], highest[i]) = (zero, scale);
        }

        Store(highest, type, null, stored);
    }

    /// <summary>Largest magnitudes become powers of two: the exponent, plus one if the mantissa is 1.75 or more, minus that of the largest
    /// code.</summary>
    public static void PowersOfTwo(Span<float> scales, float highest, TensorType values, Span<byte> stored)
    {
        var offset = MathF.ILogB(highest);
        for (var i = 0; i < scales.Length; i++)
        {
            // A quarter of the last octave more carries into the exponent. Half a denormal of F16 is zero, which has no exponent there.
            var exponent = (int)((BitConverter.SingleToUInt32Bits(scales[i]) + (1u << 21)) >> 23) - offset;
            stored[i] = (byte)(scales[i] == 0 && values == TensorType.F16 ? 127 : Math.Max(exponent, 0));
            scales[i] = Simd.PowersOfTwo.Of(stored[i]);
        }
    }

    /// <summary>The divisor of all scales of weights whose largest magnitude is given.</summary>
    public static float Divisor(float largest, TensorType values)
    {
        // Python takes the reciprocal first. F16 overflows for small weights.
        var divisor = Round(values, Round(values, 1 / largest) * (LargestE4M3 * LargestE2M1));
        divisor = float.IsFinite(divisor) ? divisor : 1 / largest * (LargestE4M3 * LargestE2M1);
        return float.IsFinite(divisor) ? divisor : 1;
    }

    /// <summary>Largest magnitudes become scales of E4M3, times the divisor, as stored; and what a code is multiplied by.</summary>
    public static void Divided(Span<float> scales, float divisor, TensorType values, Span<byte> stored)
    {
        TensorPrimitives.Divide(scales, LargestE2M1, scales);
        if (values != TensorType.F32)
        {
            var rounded = ArrayPool<byte>.Shared.Rent(scales.Length * sizeof(ushort));
            Through(values, scales, rounded.AsSpan(0, scales.Length * sizeof(ushort)));
            ArrayPool<byte>.Shared.Return(rounded);
        }

        TensorPrimitives.Multiply(scales, divisor, scales);
        var none = default(TileStatistics);
        CodeBook.E4M3.Encode(scales, 1, 0, stored, ref none);
        for (var i = stored.IndexOf((byte)0); i >= 0 && i < stored.Length;)
        {
            stored[i] = Eighth;
            i = stored[i..].IndexOf((byte)0) is var next and >= 0 ? i + next : -1;
        }

        Codes.Widen(TensorType.F8_E4M3, stored, scales);
        TensorPrimitives.Divide(scales, divisor, scales);
    }

    /// <summary>A number rounded to a dtype.</summary>
    private static float Round(TensorType type, float value) => type switch
    {
        TensorType.F16 => (float)(Half)value,
        TensorType.BF16 when BitConverter.SingleToUInt32Bits(value) is var bits =>
            float.IsFinite(value) ? BitConverter.UInt32BitsToSingle((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF_0000) : value,
        _ => value,
    };

    private static void Store(Span<float> scales, TensorType type, float? ofZeros, Span<byte> stored)
    {
        Through(type, scales, stored);
        if (scales.Contains(0))
        {
            scales.Replace(0, ofZeros ?? Epsilon(type));
            Through(type, scales, stored);
        }
    }

    private static void Through(TensorType type, Span<float> values, Span<byte> stored)
    {
        PlainFormat.Round(type, values, stored);
        PlainFormat.Decoder(type)(stored, values);
    }

    // torch.finfo(type).eps
    private static float Epsilon(TensorType type) => type switch
    {
        TensorType.BF16 => MathF.ScaleB(1, -7),
        TensorType.F16 => MathF.ScaleB(1, -10),
        _ => MathF.ScaleB(1, -23),
    };
}
