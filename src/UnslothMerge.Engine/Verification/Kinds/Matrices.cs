using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>What the formulas need beyond matrix products.</summary>
internal static class Matrices
{
    /// <summary>Some rows of a matrix.</summary>
    public static Matrix<double> Pick(this Matrix<double> matrix, IReadOnlyList<long> rows) =>
        Matrix<double>.Build.Dense(rows.Count, matrix.ColumnCount, (i, j) => matrix[checked((int)rows[i]), j]);

    /// <summary>Each column times a number.</summary>
    public static Matrix<double> TimesColumns(this Matrix<double> matrix, Vector<double> factors) => Matrix<double>.Build.Dense(matrix.RowCount, matrix.ColumnCount, (i, j) => matrix[i, j] * factors[j]);

    /// <summary>Each row times a number.</summary>
    public static Matrix<double> TimesRows(this Matrix<double> matrix, Vector<double> factors) => Matrix<double>.Build.Dense(matrix.RowCount, matrix.ColumnCount, (i, j) => matrix[i, j] * factors[i]);

    /// <summary>The matrix without its smallest singular components.</summary>
    public static Matrix<double> WithoutSmallest(this Matrix<double> matrix, int count)
    {
        // MathNet wants no wide matrices, and sorts the values in descending order.
        var tall = matrix.RowCount >= matrix.ColumnCount ? matrix : matrix.Transpose();
        var svd = tall.Svd();
        var kept = Math.Min(matrix.RowCount, matrix.ColumnCount) - count;
        var result = kept == 0
            ? Matrix<double>.Build.Dense(tall.RowCount, tall.ColumnCount)
            : svd.U.SubMatrix(0, tall.RowCount, 0, kept).TimesColumns(svd.S.SubVector(0, kept)) * svd.VT.SubMatrix(0, kept, 0, tall.ColumnCount);
        return matrix.RowCount >= matrix.ColumnCount ? result : result.Transpose();
    }

    /// <summary>A matrix whose entries are a function of their place in it.</summary>
    public static Matrix<double> Make(IReadOnlyList<long> rows, int columns, Func<long, long, double> entry) =>
        Matrix<double>.Build.Dense(rows.Count, columns, (i, j) => entry(rows[i], j));
}
