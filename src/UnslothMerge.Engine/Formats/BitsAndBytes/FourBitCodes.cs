using UnslothMerge.Simd;

namespace UnslothMerge.Formats.BitsAndBytes;

/// <summary>The two 4-bit code books of bitsandbytes and how a value finds its code: it is compared with the thresholds between the values,
/// and a tie goes down. Source: bitsandbytes 0.50, <c>dQuantizeNF4</c> and <c>dQuantizeFP4</c>.</summary>
internal sealed class FourBitCodes
{
    private FourBitCodes(string name, float[] values, float[] thresholds, byte[] codeOfRank)
    {
        Name = name;
        Values = values;
        Encoder = new FourBitEncoder(
            [.. thresholds, float.PositiveInfinity], Array.ConvertAll(codeOfRank, c => values[c]),
            Array.ConvertAll(codeOfRank, c => BitConverter.UInt32BitsToSingle(c)));
    }

    /// <summary>4-bit NormalFloat: the quantiles of a normal distribution (QLoRA, arXiv 2305.14314).</summary>
    public static FourBitCodes NF4 { get; } = new(
        "nf4",
        Floats(
            0xbf800000, 0xbf3239b1, 0xbf066b30, 0xbeca32a0, 0xbe91a24d, 0xbe3d353f, 0xbdba7871, 0,
            0x3da2faff, 0x3e24cae3, 0x3e7c04dd, 0x3ead033a, 0x3ee1a4b8, 0x3f1007ab, 0x3f3913b3, 0x3f800000),
        [
            -0.8480964004993439f, -0.6106329262256622f, -0.4599952697753906f, -0.33967943489551544f, -0.23460740596055984f,
            -0.13791173323988914f, -0.045525018125772476f, 0.03979014977812767f, 0.1202552504837513f, 0.2035212516784668f,
            0.2920137718319893f, 0.3893125355243683f, 0.5016634166240692f, 0.6427869200706482f, 0.8614784181118011f,
        ],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);

    // Between magnitudes. A tie goes to the smaller one: on the negative side, up.
    private static float[] FP4Thresholds => [0.00260417f, 0.0859375f, 0.20833333f, 0.29166667f, 0.4166667f, 0.583333f, 0.8333333f];

    /// <summary>4-bit floating point: a sign and eight magnitudes, whose codes are not in their order.</summary>
    public static FourBitCodes FP4 { get; } = new(
        "fp4",
        Floats(
            0, 0x3baaaaab, 0x3f2aaaab, 0x3f800000, 0x3eaaaaab, 0x3f000000, 0x3e2aaaab, 0x3e800000,
            0x80000000, 0xbbaaaaab, 0xbf2aaaab, 0xbf800000, 0xbeaaaaab, 0xbf000000, 0xbe2aaaab, 0xbe800000),
        [.. FP4Thresholds.Select(t => MathF.BitDecrement(-t)).Reverse(), -float.Epsilon, .. FP4Thresholds],
        [11, 10, 13, 12, 15, 14, 9, 8, 0, 1, 6, 7, 4, 5, 2, 3]);

    /// <summary>The name in a quantization state: <c>nf4</c> or <c>fp4</c>.</summary>
    public string Name { get; }

    public ReadOnlyMemory<float> Values { get; }

    internal FourBitEncoder Encoder { get; }

    public static FourBitCodes Of(string name) =>
        name == NF4.Name
            ? NF4
            : name == FP4.Name
            ? FP4
            : throw new MergeException(
                MergeError.InvalidModel, $"The 4-bit code '{name}' is not known: there are nf4 and fp4.", name,
                "Download the model again.");

    private static float[] Floats(params uint[] bits) => Array.ConvertAll(bits, BitConverter.UInt32BitsToSingle);

    /// <summary>Quantizes flat blocks; see <see cref="FourBitEncoder.Encode"/>.</summary>
    internal void Encode(
        TensorType type, ReadOnlySpan<byte> stored, int blockSize, Span<byte> packed, Span<float> absMax, ref TileStatistics statistics)
    {
        if (type == TensorType.BF16)
        {
            Encoder.Encode<BFloat16Format>(stored, blockSize, packed, absMax, ref statistics);
        }
        else
        {
            Encoder.Encode<HalfFormat>(stored, blockSize, packed, absMax, ref statistics);
        }
    }
}
