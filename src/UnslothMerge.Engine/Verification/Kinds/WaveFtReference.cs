using UnslothMerge.Adapters.Numerics;
using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>WaveFT: W + scaling·S, or what an inverse wavelet transform makes of S (arXiv 2505.12532; PEFT 0.21).</summary>
internal sealed class WaveFtReference : ReferenceKind
{
    public override Reference? Of(AdapterModule module, ReferenceTarget target)
    {
        var (outputs, inputs) = (target.Outputs, target.Inputs);
        var spectrum = module.Values("waveft_spectrum");
        var places = RandomPermutation.First((long)module.Number("random_loc_seed")!.Value, (long)outputs * inputs, spectrum.Length);
        var scale = module.Number("scaling")!.Value;
        var sparse = spectrum.Select((v, n) => (places[n] / inputs, places[n] % inputs, scale * v)).ToList();
        if ((bool?)module.Config["use_idwt"] == false)
        {
            return new AddedReference((rows, _) => ShiraReference.Sparse(rows, inputs, sparse), target.Factor);
        }

        return Wavelets.Find((string?)module.Config["wavelet_family"] ?? "db1") is { } filters
            ? new AddedReference((rows, _) => Inverse(ShiraReference.Sparse([.. Enumerable.Range(0, outputs).Select(i => (long)i)], inputs, sparse), filters.Low, filters.High).Pick(rows), target.Factor) { All = true }
            : null;
    }

    // S in the middle of a larger matrix; its quadrants are low and high, over the rows first and then over the columns; the edges are cut off.
    private static Matrix<double> Inverse(Matrix<double> s, double[] low, double[] high)
    {
        var length = low.Length;
        var (height, width) = ((s.RowCount + length - 1) / 2, (s.ColumnCount + length - 1) / 2);
        var padded = Matrix<double>.Build.Dense(2 * height, 2 * width);
        padded.SetSubMatrix(((2 * height) - s.RowCount) / 2, ((2 * width) - s.ColumnCount) / 2, s);
        var left = Upsample(padded.SubMatrix(0, height, 0, width), low) + Upsample(padded.SubMatrix(0, height, width, width), high);
        var right = Upsample(padded.SubMatrix(height, height, 0, width), low) + Upsample(padded.SubMatrix(height, height, width, width), high);
        var all = (Upsample(left.Transpose(), low) + Upsample(right.Transpose(), high)).Transpose();
        return all.SubMatrix((all.RowCount - s.RowCount) / 2, s.RowCount, (all.ColumnCount - s.ColumnCount) / 2, s.ColumnCount);
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
