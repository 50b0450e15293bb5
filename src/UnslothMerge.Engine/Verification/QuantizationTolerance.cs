using System.Numerics;
using UnslothMerge.Formats.BitsAndBytes;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification;

/// <summary>The error bound of a quantized output for each element, from the expected and the saved values.</summary>
internal abstract class QuantizationTolerance
{
    /// <summary>For a quantized tensor; null for plain numbers. The quantization is that of the model, null if its scales may be older than
    /// its values.</summary>
    public static QuantizationTolerance? Of(TensorSource output, JsonObject? quantization, InputFiles files) =>
        output.Verbatim is not null ? null
        : output is StackedSource stack ? new StackedTolerance(stack, part => Of(part, quantization, files))
        : output is TransposedSource { Stored: var stored } ? new TransposedTolerance(Of(stored, quantization, files)!, stored.Shape)
        : SchemeTolerance.OfScheme(output, quantization, files) is { } scheme ? scheme
        : output is FourBitSource fourBit ? new FourBitTolerance(fourBit, files)
        : new FormatTolerance(output.Format);

    /// <summary>The number of rows that whole blocks take.</summary>
    public virtual int RowQuantum(int columns) => 1;

    /// <summary>The error bound for each element; NaN where the block's scale is wrong. The rows are whole blocks, but for the
    /// last.</summary>
    public abstract double[] For(IReadOnlyList<long> rows, double[] expected, double[] actual, int columns);

    protected static double LargestMagnitude(ReadOnlySpan<double> values)
    {
        var largest = 0.0;
        foreach (var value in values)
        {
            largest = Math.Max(largest, Math.Abs(value));
        }

        return largest;
    }
}

/// <summary>For formats whose scales are not read: half a step of an FP8 number, or a share of the row's largest magnitude.</summary>
internal sealed class FormatTolerance(string format) : QuantizationTolerance
{
    // E4M3 has three mantissa bits, and numbers down to 2⁻⁹ of a scale that makes the largest one 448.
    private const double Fp8 = 1.05 / 16;
    private const double Fp8Smallest = 1.0 / 448 / 512;

    // The largest value of an MXFP4 block may be a third larger than what it can hold; a step of 8 bits is far below this.
    private readonly double _share = format == "INT8" ? 0.02 : 0.27;

    public override double[] For(IReadOnlyList<long> rows, double[] expected, double[] actual, int columns)
    {
        var tolerances = new double[expected.Length];
        var largest = LargestMagnitude(expected);
        for (var i = 0; i < tolerances.Length; i++)
        {
            if (format == "FP8")
            {
                tolerances[i] = (Fp8 * Math.Abs(expected[i])) + (Fp8Smallest * largest);
                continue;
            }

            largest = i % columns == 0 ? LargestMagnitude(expected.AsSpan(i, columns)) : largest;
            tolerances[i] = _share * largest;
        }

        return tolerances;
    }
}

/// <summary>For a matrix that is stored transposed, with this shape: that of the stored one, as a whole.</summary>
internal sealed class TransposedTolerance(QuantizationTolerance stored, IReadOnlyList<long> shape) : QuantizationTolerance
{
    public override int RowQuantum(int columns) => (int)shape[1];

    public override double[] For(IReadOnlyList<long> rows, double[] expected, double[] actual, int columns) => Transposed(
        stored.For(RowSet.Range(0, columns), Transposed(expected, rows.Count), Transposed(actual, rows.Count), rows.Count), columns);

    private static double[] Transposed(double[] values, int rows) =>
        [.. Enumerable.Range(0, values.Length).Select(i => values[(i % rows * (values.Length / rows)) + (i / rows)])];
}

/// <summary>For bitsandbytes' 4 bits: the nearest code times the block's absmax, which may be quantized. Source: bitsandbytes
/// 0.50.</summary>
internal sealed class FourBitTolerance(FourBitSource source, InputFiles files) : QuantizationTolerance
{
    // Values are rounded to a 16-bit dtype before and after: half a unit of BF16's last place each, of the value and of the largest one.
    private const double Rounding = 2.0 / 256;

    // Half of the widest step of the 8-bit map of absmax values, times their scale.
    private readonly double _absmaxError = 0.9 / 64 / 2 * source.Inputs.Where(
        t => t.Name.EndsWith(".nested_absmax", StringComparison.Ordinal))
        .Select(t => PlainValues.ReadAll(files, t).Max()).FirstOrDefault();

    private readonly double[] _codes = [.. FourBitCodes.Of(source.Format.ToLowerInvariant()).Values.ToArray().Select(v => (double)v)];

    public override int RowQuantum(int columns) => source.BlockSize / (int)BigInteger.GreatestCommonDivisor(source.BlockSize, columns);

    public override double[] For(IReadOnlyList<long> rows, double[] expected, double[] actual, int columns)
    {
        var tolerances = new double[expected.Length];
        for (var start = 0; start < expected.Length;)
        {
            var index = (rows[start / columns] * columns) + (start % columns);
            var length = (int)Math.Min(source.BlockSize - (index % source.BlockSize), expected.Length - start);
            OfBlock(expected.AsSpan(start, length), actual.AsSpan(start, length), tolerances.AsSpan(start, length));
            start += length;
        }

        return tolerances;
    }

    private void OfBlock(ReadOnlySpan<double> expected, ReadOnlySpan<double> actual, Span<double> tolerances)
    {
        var (largest, absmax) = (LargestMagnitude(expected), LargestMagnitude(actual));
        if (!(Math.Abs(absmax - largest) <= _absmaxError + (Rounding * largest)))
        {
            tolerances.Fill(double.NaN);
            return;
        }

        for (var i = 0; i < tolerances.Length; i++)
        {
            // The nearest code, or any code that is about as near.
            var value = largest == 0 ? 0 : expected[i] / largest;
            var nearest = double.PositiveInfinity;
            foreach (var code in _codes)
            {
                nearest = Math.Min(nearest, Math.Abs(code - value));
            }

            foreach (var code in _codes)
            {
                if (Math.Abs(code - value) <= nearest + (2 * Rounding))
                {
                    tolerances[i] = Math.Max(tolerances[i], Math.Abs((code * absmax) - expected[i]));
                }
            }

            tolerances[i] += Rounding * absmax;
        }
    }
}
