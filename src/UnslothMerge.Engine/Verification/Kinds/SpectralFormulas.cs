using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Adapters.Numerics;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>Kinds that add the inverse transform of a sparse spectrum.</summary>
internal static class SpectralFormulas
{
    /// <summary>FourierFT: W + scaling·Re(ifft2(S)), summed wave by wave (arXiv 2405.03003; PEFT 0.21).</summary>
    public static Reference FourierFt(AdapterModule module, ReferenceTarget target)
    {
        var (outputs, inputs) = (target.Outputs, target.Inputs);
        var (spectrum, scale) = (
            Spectrum(module, target, "fourierft_spectrum"), module.Number("scaling")!.Value / ((double)outputs * inputs));
        return target.AddEntries((i, j) => scale * spectrum.Sum(s =>
            s.Value * Math.Cos(2 * Math.PI * (((double)(s.Row * i % outputs) / outputs) + ((double)(s.Column * j % inputs) / inputs)))));
    }

    /// <summary>WaveFT: W + scaling·S, or the inverse wavelet transform of S (arXiv 2505.12532; PEFT 0.21).</summary>
    public static Reference? WaveFt(AdapterModule module, ReferenceTarget target)
    {
        var (spectrum, scale) = (Spectrum(module, target, "waveft_spectrum"), module.Number("scaling")!.Value);
        if (module.Config["use_idwt"] is not null && !module.IsSet("use_idwt"))
        {
            return target.Add((rows, _) => scale * Matrices.Sparse(rows, target.Inputs, spectrum));
        }

        return Wavelets.Find(module.Text("wavelet_family") ?? "db1") is { } filters
            ? target.Add((rows, _) => scale * Inverse(Matrices.Sparse(rows, target.Inputs, spectrum), filters.Low, filters.High), all: true)
            : null;
    }

    private static (long Row, long Column, double Value)[] Spectrum(AdapterModule module, ReferenceTarget target, string part)
    {
        var (values, inputs) = (module.Values(part), target.Inputs);
        var places = RandomPermutation.First((long)module.Number("random_loc_seed")!.Value, (long)target.Outputs * inputs, values.Length);
        return [.. values.Select((v, n) => (places[n] / inputs, places[n] % inputs, v))];
    }

    // S in the middle of a larger matrix; its quadrants are low and high, over the rows first and then over the columns; the edges are cut
    // off.
    private static Matrix<double> Inverse(Matrix<double> s, double[] low, double[] high)
    {
        var length = low.Length;
        var (height, width) = ((s.RowCount + length - 1) / 2, (s.ColumnCount + length - 1) / 2);
        var padded = Matrix<double>.Build.Dense(2 * height, 2 * width);
        padded.SetSubMatrix(((2 * height) - s.RowCount) / 2, ((2 * width) - s.ColumnCount) / 2, s);
        var (left, right) = (Half(0), Half(height));
        var all = (Upsample(left.Transpose(), low) + Upsample(right.Transpose(), high)).Transpose();
        return all.SubMatrix((all.RowCount - s.RowCount) / 2, s.RowCount, (all.ColumnCount - s.ColumnCount) / 2, s.ColumnCount);

        Matrix<double> Half(int row) =>
            Upsample(padded.SubMatrix(row, height, 0, width), low) + Upsample(padded.SubMatrix(row, height, width, width), high);
    }

    // Zeros between the rows, then the filter over them, without what hangs over the edges.
    private static Matrix<double> Upsample(Matrix<double> rows, double[] filter)
    {
        var length = (2 * rows.RowCount) + filter.Length - 2;
        var all = Matrix<double>.Build.Dense(length, rows.ColumnCount);
        for (var i = 0; i < rows.RowCount; i++)
        {
            for (var k = 0; k < filter.Length && (2 * i) + k < length; k++)
            {
                all.SetRow((2 * i) + k, all.Row((2 * i) + k) + (filter[k] * rows.Row(i)));
            }
        }

        var edge = ((2 * filter.Length) - 3) / 2;
        return all.SubMatrix(edge, length - (2 * edge), 0, all.ColumnCount);
    }
}
