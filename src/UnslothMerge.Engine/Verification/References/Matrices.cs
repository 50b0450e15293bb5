using MathNet.Numerics.LinearAlgebra;

namespace UnslothMerge.Verification.References;

/// <summary>What the formulas need beyond matrix products.</summary>
internal static class Matrices
{
    /// <summary>Some rows of a matrix.</summary>
    public static Matrix<double> Pick(this Matrix<double> matrix, IReadOnlyList<long> rows) =>
        Matrix<double>.Build.Dense(rows.Count, matrix.ColumnCount, (i, j) => matrix[checked((int)rows[i]), j]);

    /// <summary>The values in their order as a matrix of another shape; the matrix itself if that has as many rows, or other values.
    /// </summary>
    public static Matrix<double> Reshape(this Matrix<double> matrix, int rows, int columns) =>
        rows == matrix.RowCount || (long)rows * columns != (long)matrix.RowCount * matrix.ColumnCount ? matrix
            : Matrix<double>.Build.DenseOfRowMajor(rows, columns, matrix.ToRowMajorArray());

    /// <summary>matrix·diag(factors).</summary>
    public static Matrix<double> TimesColumns(this Matrix<double> matrix, Vector<double> factors) =>
        matrix.MapEntries((i, j) => matrix[i, j] * factors[j]);

    /// <summary>diag(factors)·matrix.</summary>
    public static Matrix<double> TimesRows(this Matrix<double> matrix, Vector<double> factors) =>
        matrix.MapEntries((i, j) => matrix[i, j] * factors[i]);

    /// <summary>A matrix of the same shape whose entries are a function of row and column.</summary>
    public static Matrix<double> MapEntries(this Matrix<double> matrix, Func<int, int, double> entry) =>
        Matrix<double>.Build.Dense(matrix.RowCount, matrix.ColumnCount, entry);

    /// <summary>Some rows of a matrix whose entries are a function of row and column.</summary>
    public static Matrix<double> Make(IReadOnlyList<long> rows, int columns, Func<long, long, double> entry) =>
        Matrix<double>.Build.Dense(rows.Count, columns, (i, j) => entry(rows[i], j));

    /// <summary>Some rows of a sparse matrix.</summary>
    public static Matrix<double> Sparse(IReadOnlyList<long> rows, int columns, IEnumerable<(long Row, long Column, double Value)> entries)
    {
        var index = rows.Select((row, i) => (row, i)).ToDictionary(p => p.row, p => p.i);
        var matrix = Matrix<double>.Build.Dense(rows.Count, columns);
        foreach (var (row, column, value) in entries.Where(e => index.ContainsKey(e.Row)))
        {
            matrix[index[row], (int)column] += value;
        }

        return matrix;
    }

    /// <summary>The Cayley transform (I − S)(I + S)⁻¹.</summary>
    public static Matrix<double> Cayley(Matrix<double> skew)
    {
        var one = Matrix<double>.Build.DenseIdentity(skew.RowCount);
        return (one - skew) * (one + skew).Inverse();
    }

    /// <summary>The matrix without its smallest singular components.</summary>
    public static Matrix<double> WithoutSmallest(this Matrix<double> matrix, int count)
    {
        if (matrix.RowCount < matrix.ColumnCount)
        {
            // MathNet decomposes no wide matrices.
            return matrix.Transpose().WithoutSmallest(count).Transpose();
        }

        var (svd, kept) = (matrix.Svd(), matrix.ColumnCount - count);
        return kept == 0
            ? Matrix<double>.Build.Dense(matrix.RowCount, matrix.ColumnCount)
            : svd.U.SubMatrix(0, matrix.RowCount, 0, kept).TimesColumns(svd.S.SubVector(0, kept)) * svd.VT.SubMatrix(
                0, kept, 0, matrix.ColumnCount);
    }
}
