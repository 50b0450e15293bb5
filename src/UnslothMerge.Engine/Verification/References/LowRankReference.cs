using UnslothMerge.Adapters;
using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Verification.References;

/// <summary>LoRA: W + scale·left·right (arXiv 2106.09685), with left [rows, rank] and right [rank, columns]. Factors may be parts of stored
/// tensors, and the product a part of the weight, from <paramref name="place"/> on.</summary>
internal sealed class LowRankReference(InputFiles files, FactorMatrix left, FactorMatrix right, double scale, MatrixPlace place) : Reference
{
    private const double Fp32 = 1.0 / (1 << 24);

    private readonly int _rank = checked((int)right.Rows);
    private readonly int _columns = checked((int)right.Columns);
    private readonly double[] _right = Factors.Read(files, right);

    // Stored [rank, rows], its rows cannot be read one by one.
    private readonly double[]? _left = left.Transposed ? Factors.Read(files, left with { Order = null }) : null;
    private double? _largestColumn;

    public override bool KnowsNoise => true;

    private double LargestColumn => _largestColumn ??=
        Enumerable.Range(0, _columns).Max(j => Math.Sqrt(Enumerable.Range(0, _rank).Sum(k => Math.Pow(_right[(k * _columns) + j], 2))));

    public override void Apply(RowSet set)
    {
        var factors = new double[_rank];
        for (var i = 0; i < set.Rows.Count; i++)
        {
            var row = set.Rows[i] - place.Row;
            if (row < 0 || row >= left.Rows || (row = left.Order?[row] ?? row) < 0)
            {
                continue;
            }

            ReadLeft(row, factors);
            var target = set.Row(i).Slice(place.Column, _columns);
            for (var k = 0; k < _rank; k++)
            {
                TensorPrimitives.MultiplyAdd(_right.AsSpan(k * _columns, _columns), scale * factors[k], target, target);
            }

            // The error bound of fp32 sums of this length; Cauchy and Schwarz bound the products.
            set.Noise[i] += Fp32 * (_rank + 4) * Math.Abs(scale) * TensorPrimitives.Norm<double>(factors) * LargestColumn;
        }
    }

    private void ReadLeft(long row, double[] factors)
    {
        if (_left is { } all)
        {
            all.AsSpan(checked((int)row) * _rank, _rank).CopyTo(factors);
        }
        else
        {
            Factors.ReadStoredRow(files, left, row, factors);
        }
    }
}

/// <summary>Reads the factors of a low-rank delta in float64.</summary>
internal static class Factors
{
    /// <summary>A whole factor, row by row.</summary>
    public static double[] Read(InputFiles files, FactorMatrix factor)
    {
        var (rows, columns) = (checked((int)factor.Rows), checked((int)factor.Columns));
        var values = new double[checked(rows * columns)];
        var line = new double[factor.Transposed ? rows : columns / factor.Repeat];
        for (var i = 0; i < (factor.Transposed ? columns : rows); i++)
        {
            ReadStoredRow(files, factor, i, line);
            for (var j = 0; j < (factor.Transposed ? rows : columns); j++)
            {
                values[factor.Transposed ? (j * columns) + i : (i * columns) + j] = line[j / factor.Repeat];
            }
        }

        return values;
    }

    /// <summary>One stored row of a factor, without the columns that do not belong to it.</summary>
    public static void ReadStoredRow(InputFiles files, FactorMatrix factor, long row, double[] values)
    {
        var tensor = factor.Tensor;
        var width = checked((int)(tensor.Shape.Count() / tensor.Shape[0]));
        var (bytes, all) = (new byte[(long)width * tensor.Type.Bits() / 8], new double[width]);
        files.Read(tensor, factor.StoredRows.At(row) * bytes.Length, bytes);
        PlainValues.Decode(tensor.Type, bytes, all);
        for (var j = 0; j < values.Length; j++)
        {
            values[j] = all[factor.StoredColumns.At(j)];
        }
    }
}
