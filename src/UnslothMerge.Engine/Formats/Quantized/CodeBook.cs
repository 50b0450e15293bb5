using UnslothMerge.Simd;

namespace UnslothMerge.Formats.Quantized;

/// <summary>Converts values to codes of a given scale, and decides whether the base's scale can be kept: wherever the values fit its range,
/// so that unchanged values get the same codes again.</summary>
internal abstract class CodeBook
{
    /// <summary>FP8 E4M3.</summary>
    public static CodeBook E4M3 { get; } = new Floats(new FloatGrid(3, 7, 7, 448), 448, 14);

    /// <summary>FP8 E5M2.</summary>
    public static CodeBook E5M2 { get; } = new Floats(new FloatGrid(2, 15, 7, 57344), 57344, 56);

    /// <summary>FP4 E2M1. Its numbers span few octaves, so a scale must fit well.</summary>
    public static CodeBook E2M1 { get; } = new Floats(new FloatGrid(1, 1, 3, 6), 6, 3.5f);

    /// <summary>The largest number of a code.</summary>
    public abstract float Highest { get; }

    /// <summary>The codes of a dtype that holds one per element.</summary>
    public static CodeBook Of(TensorType type) => type switch
    {
        TensorType.F8_E4M3 => E4M3,
        TensorType.F8_E5M2 => E5M2,
        TensorType.I8 => Integers(-128, 127),
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "Not a dtype of codes."),
    };

    /// <summary>Integers, stored with an offset added.</summary>
    public static CodeBook Integers(int lowest, int highest, int offset = 0) => new Integer(lowest, highest, offset);

    /// <summary>Quantizes values that share a scale and <paramref name="zero"/>, the code of zero.</summary>
    public abstract void Encode(ReadOnlySpan<float> values, float scale, int zero, Span<byte> codes, ref TileStatistics statistics);

    /// <summary>Replaces values by what their codes stand for.</summary>
    public abstract void RoundTrip(Span<float> values, float scale, int zero);

    /// <summary>The smallest and largest of some values and zero, or a range around zero that contains them.</summary>
    public abstract (float Low, float High) RangeOf(ReadOnlySpan<float> values);

    /// <summary>True if a scale can hold a range.</summary>
    public abstract bool Holds(float scale, float low, float high, int zero);

    /// <summary>True if a scale is not too coarse for a range. One that is may still belong to an unchanged block.</summary>
    public abstract bool Suits(float scale, float low, float high, int zero);

    /// <summary>The smallest scale that holds a range; zero if none does.</summary>
    public abstract float Needed(float low, float high, int zero);

    private sealed class Floats(FloatGrid grid, float highest, float leastMaximum) : CodeBook
    {
        // A decoded value divided by its scale may differ from its code by a rounding error.
        private readonly float _limit = highest * 1.000001f;

        public override float Highest => highest;

        public override void Encode(ReadOnlySpan<float> values, float scale, int zero, Span<byte> codes, ref TileStatistics statistics) =>
            Quantization.Encode(grid, values, scale, codes, ref statistics);

        public override void RoundTrip(Span<float> values, float scale, int zero) => Quantization.RoundTrip(grid, values, scale);

        public override (float Low, float High) RangeOf(ReadOnlySpan<float> values) =>
            Quantization.LargestMagnitude(values) is var largest ? (-largest, largest) : default;

        public override bool Holds(float scale, float low, float high, int zero) => high <= _limit * MathF.Abs(scale);

        public override bool Suits(float scale, float low, float high, int zero) => high >= leastMaximum * MathF.Abs(scale);

        public override float Needed(float low, float high, int zero) => high / highest;
    }

    private sealed class Integer(int lowest, int highest, int offset) : CodeBook
    {
        public override float Highest => highest;

        public override void Encode(ReadOnlySpan<float> values, float scale, int zero, Span<byte> codes, ref TileStatistics statistics) =>
            Quantization.Encode(new IntegerGrid(lowest, highest, zero, offset), values, scale, codes, ref statistics);

        public override void RoundTrip(Span<float> values, float scale, int zero) =>
            Quantization.RoundTrip(new IntegerGrid(lowest, highest, zero, offset), values, scale);

        public override (float Low, float High) RangeOf(ReadOnlySpan<float> values) =>
            (MathF.Min(TensorPrimitives.Min(values), 0), MathF.Max(TensorPrimitives.Max(values), 0));

        // No scale helps values on a side where the zero point leaves no code.
        public override bool Holds(float scale, float low, float high, int zero)
        {
            var (a, b) = scale < 0 ? (high / scale, low / scale) : (low / scale, high / scale);
            return (zero == highest || MathF.Round(b) <= highest - zero) && (zero == lowest || MathF.Round(a) >= lowest - zero);
        }

        public override bool Suits(float scale, float low, float high, int zero) =>
            Needed(low, high, zero) is var needed && (needed == 0 || MathF.Abs(scale) <= 2 * needed);

        public override float Needed(float low, float high, int zero) =>
            MathF.Max(zero == highest ? 0 : high / (highest - zero), zero == lowest ? 0 : low / (lowest - zero));
    }
}
