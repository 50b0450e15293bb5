using UnslothMerge.Formats;
using UnslothMerge.Formats.BitsAndBytes;
using UnslothMerge.IO;

namespace UnslothMerge.Verification;

/// <summary>What a quantized output may differ by, element by element: from the numbers it should hold, and those it holds.</summary>
internal abstract class QuantizationSlack
{
    /// <summary>For a quantized tensor; null for plain numbers.</summary>
    public static QuantizationSlack? Of(TensorSource output, InputFiles files) =>
        output.Verbatim is not null ? null : output is FourBitSource fourBit ? new FourBitSlack(fourBit, files) : new RoughSlack(output.Format);

    /// <summary>The rows after which blocks end.</summary>
    public virtual int RowQuantum(int columns) => 1;

    /// <summary>The largest distance for each element; NaN where no distance would be right.</summary>
    /// <param name="rows">The rows: whole blocks, but for the last.</param>
    /// <param name="expected">What they should hold.</param>
    /// <param name="actual">What they hold.</param>
    /// <param name="columns">Their length.</param>
    public abstract double[] For(IReadOnlyList<long> rows, double[] expected, double[] actual, int columns);

    /// <summary>The largest magnitude.</summary>
    protected static double Largest(ReadOnlySpan<double> values)
    {
        var largest = 0.0;
        foreach (var value in values)
        {
            largest = Math.Max(largest, Math.Abs(value));
        }

        return largest;
    }
}

/// <summary>Formats whose scales are not looked into: a step of an FP8 number, or a share of its row's largest magnitude.</summary>
internal sealed class RoughSlack(string format) : QuantizationSlack
{
    // E4M3 has three digits after the first, and numbers down to 2⁻⁹ of a scale that makes the largest one 448.
    private const double Fp8 = 1.05 / 16;
    private const double Fp8Smallest = 1.0 / 448 / 512;

    // The largest of MXFP4's blocks may be a third larger than what it can hold; a step of 8 bits is far below this.
    private readonly double _share = format == "INT8" ? 0.02 : 0.27;

    public override double[] For(IReadOnlyList<long> rows, double[] expected, double[] actual, int columns)
    {
        var slacks = new double[expected.Length];
        var largest = Largest(expected);
        for (var i = 0; i < slacks.Length; i++)
        {
            slacks[i] = format == "FP8"
                ? (Fp8 * Math.Abs(expected[i])) + (Fp8Smallest * largest)
                : _share * (i % columns == 0 ? largest = Largest(expected.AsSpan(i, columns)) : largest);
        }

        return slacks;
    }
}

/// <summary>bitsandbytes' 4 bits: the nearest code times the block's largest magnitude, which may be quantized itself. Source: bitsandbytes 0.50.</summary>
internal sealed class FourBitSlack(FourBitSource source, InputFiles files) : QuantizationSlack
{
    // Values are rounded to a 16-bit dtype before and after: half a unit of BF16's last place each, of the value and of the largest one.
    private const double Rounding = 2.0 / 256;

    // Half of the widest step of the 8-bit map that absmax values are quantized with, at the scale that they have in common.
    private readonly double _scaleError = 0.9 / 64 / 2 * (source.Inputs.FirstOrDefault(t => t.Name.EndsWith(".nested_absmax", StringComparison.Ordinal)) is { } nested ? PlainValues.ReadAll(files, nested).Max() : 0);

    private readonly double[] _codes = [.. FourBitCodes.Of(source.Format.ToLowerInvariant()).Values.ToArray().Select(v => (double)v)];

    // The consecutive elements that share a scale.
    private int BlockSize => source.BlockSize;

    public override int RowQuantum(int columns) => BlockSize / (int)System.Numerics.BigInteger.GreatestCommonDivisor(BlockSize, columns);

    public override double[] For(IReadOnlyList<long> rows, double[] expected, double[] actual, int columns)
    {
        var slacks = new double[expected.Length];
        for (var start = 0; start < expected.Length;)
        {
            var place = (rows[start / columns] * columns) + (start % columns);
            var length = (int)Math.Min(BlockSize - (place % BlockSize), expected.Length - start);
            OfBlock(expected.AsSpan(start, length), actual.AsSpan(start, length), slacks.AsSpan(start, length));
            start += length;
        }

        return slacks;
    }

    private void OfBlock(ReadOnlySpan<double> expected, ReadOnlySpan<double> actual, Span<double> slacks)
    {
        var (largest, scale) = (Largest(expected), Largest(actual));
        for (var i = 0; i < slacks.Length; i++)
        {
            if (!(Math.Abs(scale - largest) <= _scaleError + (Rounding * largest)))
            {
                slacks[i] = double.NaN;
                continue;
            }

            // The nearest code; where two are about as near, either.
            var share = largest == 0 ? 0 : expected[i] / largest;
            var nearest = double.PositiveInfinity;
            foreach (var code in _codes)
            {
                nearest = Math.Min(nearest, Math.Abs(code - share));
            }

            foreach (var code in _codes)
            {
                slacks[i] = Math.Abs(code - share) <= nearest + (2 * Rounding) ? Math.Max(slacks[i], Math.Abs((code * scale) - expected[i])) : slacks[i];
            }

            slacks[i] += Rounding * scale;
        }
    }
}
